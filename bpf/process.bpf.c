// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * process.bpf.c - which process uses a socket: at the root of the cgroups, for every socket of the host.
 *
 * What is noted is the path of the file that the process executes, as a hash, in storage that hangs on the socket
 * itself and is gone with it: there is no table that one endpoint could fill for another. The process that connects,
 * sends or listens counts (of a datagram socket, the one that binds it), not the one that made the socket or was passed
 * it. A connection's socket has what its listener had when the connection began.
 *
 * The path begins at the root of the mount namespace, whatever the process calls its root (chroot), and it is believed
 * only if that namespace belongs to the same user namespace as the socket's network: else anybody who may make a user
 * namespace of his own could mount his file where a rule expects another one. A file that was unlinked has no path any
 * more. Where no path is found the process is not known.
 */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "process_path.h"

#define HW_TCP 6 /* IP protocol number */
#define HW_AF_INET 2
#define HW_AF_INET6 10

#define HW_RELOCATED __attribute__((preserve_access_index))

/* Of the kernel's own structures, what is read here; CO-RE finds where it stands. */
struct user_namespace;
struct dentry;

struct mnt_namespace {
	struct user_namespace *user_ns;
} HW_RELOCATED;

struct net {
	__u64 net_cookie;
	struct user_namespace *user_ns;
} HW_RELOCATED;

struct qstr {
	const unsigned char *name;
} HW_RELOCATED;

struct hlist_bl_node {
	struct hlist_bl_node *next, **pprev;
} HW_RELOCATED;

struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
} HW_RELOCATED;

struct vfsmount {
	struct dentry *mnt_root;
} HW_RELOCATED;

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct mnt_namespace *mnt_ns;
} HW_RELOCATED;

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
} HW_RELOCATED;

struct file {
	struct path f_path;
} HW_RELOCATED;

struct mm_struct {
	struct file *exe_file;
} HW_RELOCATED;

struct nsproxy {
	struct net *net_ns;
} HW_RELOCATED;

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	unsigned short skc_family;
	unsigned char skc_reuse : 4;
	unsigned char skc_reuseport : 1;
	possible_net_t skc_net;
} HW_RELOCATED;

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
} HW_RELOCATED;

struct socket {
	struct sock *sk;
} HW_RELOCATED;

struct bpf_iter__task_file {
	struct task_struct *task;
	struct file *file;
} HW_RELOCATED;

struct task_struct {
	struct mm_struct *mm;
	struct nsproxy *nsproxy;
} HW_RELOCATED;

/* The endpoints' programs have the same map: the loader gives both objects one. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct hw_user);
} hw_sockets SEC(".maps");

struct walk {
	struct dentry *dentry;
	struct mount *mount;
	struct dentry *mount_root;
	__u64 hash;
	bool arrived;
};

/* From a dentry's hash chain to its name: one read for three fields, which stand close together in every kernel. */
#define HW_DENTRY_WORDS 8

/* The word of what was read at a dentry's d_hash that a field is; 0 if the kernel has it elsewhere. */
#define dentry_word(words, field)                                                                                      \
	({                                                                                                             \
		__u32 at = bpf_core_field_offset(struct dentry, field) - bpf_core_field_offset(struct dentry, d_hash); \
		at / 8 < HW_DENTRY_WORDS ? words[at / 8 & (HW_DENTRY_WORDS - 1)] : 0;                                  \
	})

/*
 * One step towards the root: a name into the hash, or over the edge of a mount. 1 ends the walk. What it needs is on
 * its stack: these programs may be preempted, and another's name in a buffer of the processor's would be taken for this
 * one.
 */
static long step(__u64 index, struct walk *walk)
{
	/* Locals, because CO-RE would look for the walk itself in the kernel's types. */
	struct dentry *dentry = walk->dentry;
	struct mount *mount = walk->mount;
	__u64 name[HW_NAME_WORDS] = {}, found[HW_DENTRY_WORDS];
	long len;

	if (dentry == walk->mount_root) {
		struct mount *parent = BPF_CORE_READ(mount, mnt_parent);

		if (parent == mount) {
			walk->arrived = true;
			return 1;
		}
		walk->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		walk->mount = parent;
		walk->mount_root = BPF_CORE_READ(parent, mnt.mnt_root);
		return 0;
	}
	if (bpf_probe_read_kernel(found, sizeof(found),
				  (void *)dentry + bpf_core_field_offset(struct dentry, d_hash)) ||
	    !dentry_word(found, d_hash.pprev))
		return 1;
	len = bpf_probe_read_kernel_str(name, sizeof(name), (void *)dentry_word(found, d_name.name));
	/* A name that fills the buffer may have been cut off. */
	if (len <= 1 || len >= (long)sizeof(name))
		return 1;
	for (int i = 0; i < HW_NAME_WORDS; i++)
		walk->hash = hash_word(walk->hash, name[i]);
	walk->dentry = (void *)dentry_word(found, d_parent);
	return 0;
}

/*
 * The hash of the path of a process's executable; 0 if it is not known. `network` is the cookie of the socket's
 * namespace: a process that left it for one of its own must not be believed about a socket that it took along.
 */
static __always_inline __u64 executable_of(struct task_struct *task, __u64 network)
{
	struct file *file = BPF_CORE_READ(task, mm, exe_file);
	struct vfsmount *mnt = BPF_CORE_READ(file, f_path.mnt);
	struct net *net = BPF_CORE_READ(task, nsproxy, net_ns);
	struct user_namespace *owner = BPF_CORE_READ(net, user_ns);
	struct mount *mount = (void *)mnt - bpf_core_field_offset(struct mount, mnt);
	struct walk walk = {.mount = mount, .hash = HW_PATH_BASIS};

	if (!mnt || !owner || BPF_CORE_READ(net, net_cookie) != network ||
	    BPF_CORE_READ(mount, mnt_ns, user_ns) != owner)
		return 0;
	walk.dentry = BPF_CORE_READ(file, f_path.dentry);
	walk.mount_root = BPF_CORE_READ(mnt, mnt_root);
	bpf_loop(HW_PATH_STEPS, step, &walk, 0);
	return walk.arrived ? walk.hash : 0;
}

/* Who else may get packets for the socket's port: enum hw_sharing. */
static __always_inline __u32 sharing_of(struct sock *sk, __u32 protocol)
{
	__u32 sharing = 0;

	if (BPF_CORE_READ_BITFIELD_PROBED(&sk->__sk_common, skc_reuseport))
		sharing |= HW_SHARED_BY_USER;
	if (protocol != HW_TCP && BPF_CORE_READ_BITFIELD_PROBED(&sk->__sk_common, skc_reuse))
		sharing |= HW_SHARED_BY_ANYBODY;
	return sharing;
}

static __always_inline void note(struct bpf_sock *sk, __u64 network)
{
	struct hw_user *user;
	struct sock *address;

	if (!sk)
		return;
	user = bpf_sk_storage_get(&hw_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!user)
		return;
	/* The verifier lets nobody reckon with a socket, but with the number that its address is. */
	bpf_probe_read_kernel(&address, sizeof(address), &sk);
	user->executable = executable_of((void *)bpf_get_current_task(), network);
	user->sharing = sharing_of(address, sk->protocol);
	user->scanned = 0;
}

SEC("cgroup/sock_create")
int hw_sock_create(struct bpf_sock *ctx)
{
	note(ctx, bpf_get_netns_cookie(ctx));
	return 1;
}

SEC("cgroup/connect4")
int hw_connect4(struct bpf_sock_addr *ctx)
{
	note(ctx->sk, bpf_get_netns_cookie(ctx));
	return 1;
}

SEC("cgroup/connect6")
int hw_connect6(struct bpf_sock_addr *ctx)
{
	note(ctx->sk, bpf_get_netns_cookie(ctx));
	return 1;
}

SEC("cgroup/sendmsg4")
int hw_sendmsg4(struct bpf_sock_addr *ctx)
{
	note(ctx->sk, bpf_get_netns_cookie(ctx));
	return 1;
}

SEC("cgroup/sendmsg6")
int hw_sendmsg6(struct bpf_sock_addr *ctx)
{
	note(ctx->sk, bpf_get_netns_cookie(ctx));
	return 1;
}

SEC("cgroup/post_bind4")
int hw_post_bind4(struct bpf_sock *ctx)
{
	note(ctx, bpf_get_netns_cookie(ctx));
	return 1;
}

SEC("cgroup/post_bind6")
int hw_post_bind6(struct bpf_sock *ctx)
{
	note(ctx, bpf_get_netns_cookie(ctx));
	return 1;
}

/* All of a connection's events come here, and none of its packets. */
SEC("sockops")
int hw_listen(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_TCP_LISTEN_CB)
		note(ctx->sk, bpf_get_netns_cookie(ctx));
	return 1;
}

/*
 * For each file of each process, once the others are attached and before they are relied on: sockets that are older.
 * Who holds one is taken for who uses it; where two executables do, nobody is known.
 */
SEC("iter/task_file")
int hw_scan(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct socket *socket;
	struct hw_user *user;
	struct sock *sk;
	__u64 executable;
	__u16 family;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk)
		return 0;
	family = sk->__sk_common.skc_family;
	if (family != HW_AF_INET && family != HW_AF_INET6)
		return 0;
	executable = executable_of(task, BPF_CORE_READ(sk, __sk_common.skc_net.net, net_cookie));
	user = bpf_sk_storage_get(&hw_sockets, sk, 0, 0);
	if (user) {
		if (user->scanned && user->executable != executable)
			user->executable = 0;
		return 0;
	}
	user = bpf_sk_storage_get(&hw_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!user)
		return 0;
	user->executable = executable;
	user->sharing = sharing_of(sk, sk->sk_protocol);
	user->scanned = 1;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
