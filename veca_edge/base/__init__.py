"""What everything stands on: errors, files, units, versions. Imports nothing of this package but itself."""
