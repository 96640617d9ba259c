"""Raw folders of studies to one validated datalist."""
