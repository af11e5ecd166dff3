"""What things mean: tasks, questions, commands, policy, waiting. Standard library only."""
