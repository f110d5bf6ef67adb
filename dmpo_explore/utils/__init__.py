"""Small tools every package may use: registries of names, atomic files, shared types, seeding."""
