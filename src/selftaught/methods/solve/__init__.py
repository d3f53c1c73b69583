"""Methods that answer one problem at test time."""
