"""What `make audit` looks at: the packages that MUTT runs on, their licences, and its own code."""
