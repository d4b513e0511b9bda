"""Every knob, and how its value is found."""
