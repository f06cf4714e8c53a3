"""What Hostward tells other systems, in their own forms. Nothing here reads a kernel or decides anything."""
