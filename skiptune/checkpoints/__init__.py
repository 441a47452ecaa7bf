"""Checkpoints: fetched (``fetching``), read (``reading``), made networks (``building``); ``desk`` ships."""
