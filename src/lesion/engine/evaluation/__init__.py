"""What an exported file can do, and where it fails: measured, drawn and written down."""
