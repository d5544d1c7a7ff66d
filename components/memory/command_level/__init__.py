"""DRAM at the level of its commands: standards, presets, controllers, and what one channel answers.

``standard`` says which command must wait how long for which, ``preset`` reads a device from ``configs/drams``,
``device`` turns both into arrays, ``frfcfs`` and ``per_bank`` are the controllers, ``channel`` plays requests.
"""
