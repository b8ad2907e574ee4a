"""What a user can ask for: one library call each."""
