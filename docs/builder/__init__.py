"""The documentation site: its pages are gathered, generated and built by Zensical into build/docs/site.

`pages` copies what is written by hand and rewrites its links, `reference` generates command line, config and API,
`notebooks` renders the notebooks, `check` looks at the result. ``python -m builder`` runs all (`scripts/docs`).
"""
