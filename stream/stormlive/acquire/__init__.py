"""From the camera onto the wire: the hook, and the Micro-Manager acquisition that calls it."""
