"""What a run left: its study, its networks, its front, its picks."""
