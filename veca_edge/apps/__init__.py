"""What goes into an app."""
