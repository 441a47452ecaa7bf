"""Skip sites: the places of a U-Net where decoder features ``u`` and encoder features ``d`` are concatenated.

One finder per architecture family lists them; everything that acts on them is generic.
"""

from skiptune.interventions.sites.find import FINDERS, Finder, find_skip_sites, inner_networks, network_family
from skiptune.interventions.sites.site import SkipSite

__all__ = ["FINDERS", "Finder", "SkipSite", "find_skip_sites", "inner_networks", "network_family"]
