"""Private parts of torch. No other room may touch a name of torch that begins with an underscore."""
