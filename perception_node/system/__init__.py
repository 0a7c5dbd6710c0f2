# SPDX-License-Identifier: Apache-2.0
"""What the operating system is asked for: files, processes, threads, signals, real time."""
