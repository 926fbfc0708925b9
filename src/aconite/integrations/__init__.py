"""Entry points for other libraries, each imported on request.

``timm`` and ``transformers`` register names there; ``hub`` saves and loads networks as the Hugging Face Hub does.
They wrap: layers and networks know nothing of these libraries.
"""
