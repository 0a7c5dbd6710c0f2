# SPDX-License-Identifier: Apache-2.0
"""Requests to the operating system: files, processes, threads, signals, real time."""
