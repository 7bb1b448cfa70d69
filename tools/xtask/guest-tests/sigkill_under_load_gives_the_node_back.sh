gives_back KILL
