"""Powers and productivity of CMS's data acquisition, held against SystemFlow's."""
