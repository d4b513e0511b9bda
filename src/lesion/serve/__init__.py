"""The HTTP face of a model file; `docs/serving.md` says how it is used, `docs/api.md` what it answers."""
