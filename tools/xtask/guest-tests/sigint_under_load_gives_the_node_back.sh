gives_back INT
