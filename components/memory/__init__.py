"""What holds bytes and moves them: SRAM, DRAM, DMA."""
