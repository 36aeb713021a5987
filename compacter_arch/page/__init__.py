"""The web page of ``basicsr demo``: a photograph in, the restored one and a comparison out."""
