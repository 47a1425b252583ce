"""Arrays in, frozen records out; nothing here knows a model."""
