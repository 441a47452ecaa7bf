"""The results as a static site: one folder of pages that open from the disk, without any request."""
