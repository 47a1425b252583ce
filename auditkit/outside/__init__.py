"""Systems made elsewhere: files, tables of answers and endpoints as recommenders that an audit can question."""
