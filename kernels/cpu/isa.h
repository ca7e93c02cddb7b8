/* The table that an instruction set's file gives, from what rows.h, tile.h, attend.h and peak.h made there. */
#ifndef CPU_ISA_H
#define CPU_ISA_H

#define ISA_TABLE(isa_name) ISA_TABLE_WITH(isa_name, tile_any, NULL)

/* With products of its own, and with the function that arranges activations for them, or NULL. */
#define ISA_TABLE_WITH(isa_name, product, arrange)                                                                     \
	{                                                                                                              \
		.name = isa_name, .groups = PANEL_GROUPS, .bytes = bytes_row, .words = words_row, .tiles = arrange,    \
		.matmul = product, .norm = norm_row, .activate = activate_row, .store = store_row,                     \
		.attend = attend_part, .merge = merge_spans, .read_peak = read_peak, .f32_peak = f32_peak,             \
		.bytes_peak = bytes_peak, .words_peak = words_peak,                                                    \
	}

#endif
