"""What an export leaves on disk."""
