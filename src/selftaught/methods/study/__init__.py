"""Methods that reproduce a published finding."""
