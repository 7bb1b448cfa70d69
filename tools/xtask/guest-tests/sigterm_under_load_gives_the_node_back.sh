gives_back TERM
