"""A merged model, or a committee, as a function of structures and as an ASE calculator."""
