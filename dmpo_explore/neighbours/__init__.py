"""The shelf: methods of other papers, each a package that uses only what a plug-in may use.

Their ``__init__`` adds entries to joints and imports no torch; `dmpo_explore.plugins` loads them all. Nothing in the
rest of the library imports or names one.
"""
