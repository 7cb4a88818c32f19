"""What the project knows by name, as rows of data: methods, checks, engines, foundation models."""
