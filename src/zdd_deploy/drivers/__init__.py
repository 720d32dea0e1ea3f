"""What a release is done with: a platform's instances and its traffic, behind one protocol."""
