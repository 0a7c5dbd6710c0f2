# SPDX-License-Identifier: Apache-2.0
"""What a user points at: a file, a folder or an archive, and which kind of model it holds."""
