GATE = 20_260_101
"""Key of the advisory lock that a test holds for as long as the gate of first starts is to be
closed; that of second starts has the next."""
