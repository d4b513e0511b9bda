"""The store of runs: written by every training, read by `lesion runs`; no torch."""
