"""Light, rooms, cameras and attack instruments of the renderer."""
