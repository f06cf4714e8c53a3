/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * process_path.h - how an executable's path becomes a number; `hostward.datapath.executables` computes the same.
 *
 * Names are hashed from the last to the first, each as words of eight bytes padded with zeros. Nothing is protected by
 * the hash: who may choose the path of a file, may choose the very path that a rule names.
 */
#ifndef HW_PROCESS_PATH_H
#define HW_PROCESS_PATH_H

#include <linux/types.h>

#define HW_NAME_WORDS 8	 /* a name is at most 63 bytes long */
#define HW_PATH_STEPS 48 /* names and mounts from the file to the root */
#define HW_PATH_BASIS 0xcbf29ce484222325ull

static inline __attribute__((always_inline)) __u64 hash_word(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
	return hash ^ hash >> 32;
}

#endif
