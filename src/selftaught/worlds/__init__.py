"""Small worlds in which a method's claim can be checked in a minute."""
