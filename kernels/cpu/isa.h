/* The table that an instruction set's file gives, from what rows.h, tile.h and attend.h made there. */
#ifndef CPU_ISA_H
#define CPU_ISA_H

#define ISA_TABLE(isa_name)                                                                                            \
	{                                                                                                              \
		.name = isa_name, .bytes = bytes_row, .words = words_row, .matmul = tile_any, .norm = norm_row,        \
		.gate = gate_row, .store = store_row, .attend = attend_part, .merge = merge_spans,                     \
	}

#endif
