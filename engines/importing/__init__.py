# SPDX-License-Identifier: Apache-2.0
"""A model file becomes a model bundle.

``importer.py`` leads through it. Whatever opens the file runs in a child process (``child.py``)
that is confined before it starts: TorchScript is code, and parsers have bugs.
"""
