package reliable
