"""Networks: backbones, adapters, decoder, heads, and the registry that names them."""
