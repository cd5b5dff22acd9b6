"""Methods of explanation behind one interface: `table` lists them, one module holds one method."""
