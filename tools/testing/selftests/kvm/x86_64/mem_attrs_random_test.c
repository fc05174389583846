// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random operations on a VM with memory attributes, against a model.
 *
 * Words: an actor is a thread that owns a vCPU and some pages.  An order is one
 * instruction that the actor has its guest execute.  A touch is what an order
 * does to one page.  A contested page belongs to no actor.
 *
 * Model
 *
 *   A page has attributes, which belong to the GFN, and two copies of its data,
 *   shared and private, which belong to the backing of the memslot.  The data
 *   that orders use is the first and the last 64 bytes of the page.
 *
 *   An owned page is changed by its actor alone: attributes, memslot, holes,
 *   stores.  So the outcome of each access to it is known: what is allowed
 *   completes without an exit and with the values of the model, what is refused
 *   exits with the page and the access named, RIP on the instruction, and the
 *   page unchanged.  The other actors change its neighbours, the hugepage and
 *   the MMU that it is part of.
 *
 *   A contested page is changed by all actors at the same time.  The model keeps
 *   which values its attributes may have had since an access began.  The outcome
 *   must be the one of some such value.  Each actor has a word of its own in
 *   the page, so it knows which values that word may hold.
 *
 *   The order loop runs in L1, or in L2 with or without nested paging: the
 *   outcomes are the same.
 *
 *   A PV structure (kvmclock, steal time) can be in any owned page.  Its bytes
 *   are unknown while KVM may write to them, and do not change otherwise.
 *
 *   With -e, calls may fail for lack of memory.  A call that fails changes
 *   nothing.
 *
 * Memory
 *
 *   COMMON	 pages of all actors in turn, and contested ones; never deleted
 *   CHURN	 contested pages; any actor deletes and creates the memslot
 *   OWN	 a window for each actor, with a memslot that the actor deletes,
 *		 creates, moves, and whose guest_memfd the actor closes
 *   TABLES	 a page of page tables for each actor, which lead to COMMON
 *   FAR	 GFNs without memory, each actor's own, in ranges of GiBs
 *
 * Locks, outermost first
 *
 *   fork_lock	 for write while a forked child holds the file descriptors; for
 *		 read to close a guest_memfd, so that it is closed
 *   log_lock	 flags and dirty logs of COMMON and CHURN, resets of dirty rings
 *   fact.change one thing that actors contest: held by the actor that changes
 *		 it, across the ioctl.  Of several, in order of their addresses
 *   fact.note	 fact.possible and fact.seen; held for some instructions
 *
 * Lifetimes: a VM lives for a fixed number of operations.  Its actors end before
 * its file descriptors are closed, in random order.  A guest_memfd may outlive
 * its VM.
 *
 * The choice of operation N of an actor depends on the seed, the number of the VM,
 * the actor and N alone.  So does the outcome, but for contested pages.
 */
#define _GNU_SOURCE /* for fallocate() */
#include <getopt.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <asm/kvm_para.h>
#include <asm/pvclock-abi.h>
#include <linux/kvm_para.h>

#include "asm/barrier.h"
#include "linux/bitmap.h"
#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "vmx.h"
#include "mem_guest.h"
#include "mem_prot.h"

#define PG		0x1000ul
#define MAX_ACTORS	4
#define OPS_PER_VM	400

#define COMMON_SLOT	10
#define COMMON_GPA	0x100000000ul
#define COMMON_PAGES	512
#define CHURN_SLOT	11
#define CHURN_GPA	0x104000000ul
#define CHURN_PAGES	16
#define TABLE_SLOT	12
#define TABLE_GPA	0x106000000ul
#define OWN_SLOT	20
#define OWN_GPA		0x108000000ul
#define OWN_PAGES	512
#define HOT_PAGES	16		/* used more often than the others */
#define WINDOW_PAGES	1024
#define WINDOW		(WINDOW_PAGES * PG)
#define ALIAS_GVA	0x500000000ul	/* COMMON, by an actor's table */
#define FAR_GPA		BIT(44)
#define FAR_BLOCK	BIT(34)
#define FAR_BLOCKS	64

#define EDGE		64		/* bytes of data at each end of a page */
#define CLOCK_AT	0x400
#define STEAL_AT	0x480

#define DONE_PORT	0x2001
#define DATA_PORT	0x2002
#define LOST_PORT	0x2003

#define RING_ENTRIES	1024

/* ---- The guest ---- */

enum insn_kind {
	NOP, LOAD, STORE, XADD, CMPXCHG, FETCH, MOVS, STOS, OUTS, INS, WRMSR,
	NR_INSNS
};

static const char *const insn_names[] = {
	"nop", "load", "store", "xadd", "cmpxchg", "fetch", "movs", "stos",
	"outs", "ins", "wrmsr",
};

/*
 * @at: where, or the MSR; @from: the source of MOVS, the expected value of
 * CMPXCHG; @count: iterations of a string instruction; @rip: where it is
 */
struct order {
	u64 insn;
	u64 forced;
	u64 at;
	u64 from;
	u64 value;
	u64 count;
	u64 result;
	u64 rip;
};

static struct order orders[MAX_ACTORS];
static u8 l2_stacks[MAX_ACTORS][2 * PG] __aligned(16);

/* As AT(), but each vCPU has an order of its own. */
#define HERE								\
	"lea 1f(%%rip), %%r11; mov %%r11, %[rip]\n"			\
	"cmpq $0, %[forced]; je 1f\n"					\
	FEP "\n1: "

static void do_nop(struct order *o)
{
}

static void do_load(struct order *o)
{
	u64 value;

	asm volatile(HERE "mov (%[at]), %[v]"
		     : [rip] "=m"(o->rip), [v] "=&r"(value)
		     : [forced] "m"(o->forced), [at] "r"(o->at) : CLOBBERS);
	o->result = value;
}

static void do_store(struct order *o)
{
	asm volatile(HERE "mov %[v], (%[at])"
		     : [rip] "=m"(o->rip)
		     : [forced] "m"(o->forced), [at] "r"(o->at),
		       [v] "r"(o->value) : CLOBBERS);
}

static void do_xadd(struct order *o)
{
	u64 value = o->value;

	asm volatile(HERE "lock xadd %[v], (%[at])"
		     : [rip] "=m"(o->rip), [v] "+&r"(value)
		     : [forced] "m"(o->forced), [at] "r"(o->at) : CLOBBERS);
	o->result = value;
}

static void do_cmpxchg(struct order *o)
{
	u64 rax = o->from;

	asm volatile(HERE "lock cmpxchg %[v], (%[at])"
		     : [rip] "=m"(o->rip), "+&a"(rax)
		     : [forced] "m"(o->forced), [at] "r"(o->at),
		       [v] "r"(o->value) : CLOBBERS);
	o->result = rax;
}

static void do_fetch(struct order *o)
{
	o->rip = o->at;
	o->result = call_code(o->at);
}

static void do_movs(struct order *o)
{
	u64 to = o->at, from = o->from, n = o->count;

	asm volatile(HERE "rep movsb"
		     : [rip] "=m"(o->rip), "+&D"(to), "+&S"(from), "+&c"(n)
		     : [forced] "m"(o->forced) : CLOBBERS);
	o->result = to;
}

static void do_stos(struct order *o)
{
	u64 to = o->at, n = o->count;

	asm volatile(HERE "rep stosb"
		     : [rip] "=m"(o->rip), "+&D"(to), "+&c"(n)
		     : [forced] "m"(o->forced), "a"(o->value) : CLOBBERS);
	o->result = to;
}

static void do_outs(struct order *o)
{
	u64 from = o->at, n = o->count;

	asm volatile(HERE "rep outsb"
		     : [rip] "=m"(o->rip), "+&S"(from), "+&c"(n)
		     : [forced] "m"(o->forced), "d"(DATA_PORT) : CLOBBERS);
	o->result = from;
}

static void do_ins(struct order *o)
{
	u64 to = o->at, n = o->count;

	asm volatile(HERE "rep insb"
		     : [rip] "=m"(o->rip), "+&D"(to), "+&c"(n)
		     : [forced] "m"(o->forced), "d"(DATA_PORT) : CLOBBERS);
	o->result = to;
}

static void do_wrmsr(struct order *o)
{
	wrmsr(o->at, o->value);
}

static void (*const insns[NR_INSNS])(struct order *o) = {
	do_nop, do_load, do_store, do_xadd, do_cmpxchg, do_fetch, do_movs,
	do_stos, do_outs, do_ins, do_wrmsr,
};

static void tell(u16 port, u32 value)
{
	asm volatile("out %%eax, %%dx" :: "d"(port), "a"(value) : "memory");
}

static void obey(u64 id)
{
	struct order *o = &orders[id];

	for (;;) {
		insns[o->insn](o);
		tell(DONE_PORT, 0);
	}
}

static void l2_0(void) { obey(0); }
static void l2_1(void) { obey(1); }
static void l2_2(void) { obey(2); }
static void l2_3(void) { obey(3); }

static void *const l2_entries[MAX_ACTORS] = { l2_0, l2_1, l2_2, l2_3 };

static void l1_svm(u64 id, struct svm_test_data *svm, u64 npt)
{
	struct vmcb_control_area *control = &svm->vmcb->control;

	generic_svm_setup(svm, l2_entries[id], l2_stacks[id + 1]);
	if (npt) {
		control->nested_ctl |= SVM_NESTED_CTL_NP_ENABLE;
		control->nested_cr3 = npt;
	}
	run_guest(svm->vmcb, svm->vmcb_gpa);
	tell(LOST_PORT, control->exit_code);
}

static void l1_vmx(u64 id, struct vmx_pages *vmx)
{
	if (prepare_for_vmx_operation(vmx) && load_vmcs(vmx)) {
		prepare_vmcs(vmx, l2_entries[id], l2_stacks[id + 1]);
		vmlaunch();
	}
	tell(LOST_PORT, vmreadz(VM_EXIT_REASON));
}

/* ---- The model ---- */

enum copy { SHARED, PRIVATE };

/* The data of a page: EDGE bytes from its start, EDGE bytes up to its end. */
struct backing {
	u8 data[2][2 * EDGE];
	bool had_pv;
};

/*
 * A memslot.  @bound: it has a guest_memfd, and the file still exists.  The
 * GFNs are [gpa, gpa + pages), if the memslot is there.
 */
struct region {
	u32 slot;
	u32 flags;
	bool there;
	bool bound;
	int memfd;
	u64 gpa;
	u64 pages;
	u8 *hva;
	void *map_start;
	size_t map_size;
};

/* @access: KVM_MEMORY_EXIT_FLAG_*; iterations [first, end) touch the page. */
struct touch {
	u64 gpa;
	u64 access;
	int first;
	int end;
};

/* @frozen: where bytes are that must be as in @bytes, or NULL */
struct pv {
	u32 msr;
	u32 offset;
	u32 size;
	u64 gpa;
	const u8 *frozen;
	u8 bytes[64];
};

struct actor {
	int id;
	int vm_nr;
	u64 op;
	u64 rng;
	char what[160];
	char trail[200];		/* what the order has met so far */
	pthread_t thread;
	struct kvm_vcpu *vcpu;
	struct order *order;
	bool nested;

	/* Owned pages */
	struct region own;
	u8 own_attrs[WINDOW_PAGES];
	struct backing own_data[OWN_PAGES];
	u8 common_attrs[COMMON_PAGES];
	struct backing common_data[COMMON_PAGES];
	u8 table_attrs;
	u8 far_attrs[FAR_BLOCKS];
	bool written[OWN_PAGES];	/* and must be logged as dirty */
	struct pv pv[2];

	/* The order at hand */
	struct touch touches[5];
	int nr_touches;
	u64 table;		/* the page table that leads to it, or 0 */
	u64 gpa;		/* of order->at */
	int done;		/* iterations */
	int port_bytes;
	bool was_mmio;
	bool reaped;		/* meanwhile, so what it wrote before is not logged */

	int fail_nth;
	u64 refusals, mmios, failures;
};

/*
 * Something that actors contest.  @value is what it is.  Bit n of @possible: it
 * may be n now.  Bit n of @seen: it may have been n since the actor began to
 * watch.
 */
struct fact {
	pthread_mutex_t change;
	pthread_mutex_t note;
	u32 value;
	u32 possible;
	u32 seen[MAX_ACTORS];
};

/* @words: what each actor's word may be in each copy; changed by that actor */
struct contested {
	struct fact attrs;
	struct region *region;
	u64 gpa;
	atomic_uint punches;
	u64 words[MAX_ACTORS][2];
	unsigned int punches_then[MAX_ACTORS];
};

static int nr_actors = 3;
static u64 seed;
static u64 ops_left = -1ull;	/* for each actor */
static int seconds = 60;
static int first_vm;
static bool errors_allowed;
static struct timespec begun;

static bool forced, has_tdp;

/* The VM at hand, and what kind it is */
static struct kvm_vm *vm;
static bool protected, ring, manual_log;
static enum vm_mem_backing_src_type backing_src;
static u64 memfd_flags;
static u32 accepted;		/* combinations of attributes, a bit each */
static struct actor *actors[MAX_ACTORS];
static struct region common, churn, tables;
static struct contested contested[COMMON_PAGES + CHURN_PAGES];
static int nr_contested, nr_common_contested;
static struct fact churn_there;

static pthread_rwlock_t fork_lock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

/*
 * Of the first failure only: the library's report forks, and the child keeps files
 * open that other actors close.
 */
static const char *story(struct actor *a)
{
	static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
	static char text[640];

	pthread_mutex_lock(&once);
	snprintf(text, sizeof(text),
		 "seed %lu, VM %d%s%s, actor %d%s, operation %lu (%s)%s", seed,
		 a->vm_nr, protected ? ", protected" : "",
		 ring ? ", ring" : "", a->id, a->nested ? " in L2" : "",
		 a->op, a->what, a->trail);
	return text;
}

/* Called very often: no argument is looked at unless it fails. */
#define SHOULD(actor, cond, fmt, ...)					\
do {									\
	if (!(cond))							\
		TEST_FAIL("%s: " fmt, story(actor), ##__VA_ARGS__);	\
} while (0)

static void __printf(2, 3) say(struct actor *a, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(a->what, sizeof(a->what), fmt, args);
	va_end(args);
	a->trail[0] = 0;
}

static void __printf(2, 3) note(struct actor *a, const char *fmt, ...)
{
	size_t n = strlen(a->trail);
	va_list args;

	va_start(args, fmt);
	n += snprintf(a->trail + n, sizeof(a->trail) - n, ", ");
	if (n < sizeof(a->trail))
		vsnprintf(a->trail + n, sizeof(a->trail) - n, fmt, args);
	va_end(args);
}

static u64 mix(u64 a, u64 b)
{
	a = (a * 0x9e3779b97f4a7c15ull ^ b) * 0xbf58476d1ce4e5b9ull;
	return a ^ a >> 31;
}

static u64 any(struct actor *a, u64 n)
{
	return random_next(&a->rng) % n;
}

static u64 unique(struct actor *a)
{
	return mix(mix(a->rng, a->op), a->id) | 1;
}

/* ---- Calls that may fail ---- */

static void arm(struct actor *a)
{
	char buf[16];
	int n;

	if (a->fail_nth < 0 || any(a, 3))
		return;
	n = snprintf(buf, sizeof(buf), "%lu", any(a, 30) + 1);
	SHOULD(a, pwrite(a->fail_nth, buf, n, 0) == n,
	       "fail-nth should be writable");
}

static void disarm(struct actor *a)
{
	int error = errno;

	if (a->fail_nth >= 0)
		SHOULD(a, pwrite(a->fail_nth, "0", 1, 0) == 1,
		       "fail-nth should be writable");
	errno = error;
}

#define ATTEMPT(caller, call)						\
({									\
	struct actor *__a = (caller);					\
	long __ret;							\
									\
	arm(__a);							\
	__ret = call;							\
	disarm(__a);							\
	__ret;								\
})

/* Did the call fail in a way that leaves all as it was? */
static bool failed(struct actor *a, long ret)
{
	if (ret >= 0 || !errors_allowed ||
	    (errno != ENOMEM && errno != EAGAIN && errno != EFAULT))
		return false;
	a->failures++;
	return true;
}

/* True if the call took effect. */
static bool worked(struct actor *a, long ret, const char *what)
{
	if (failed(a, ret))
		return false;
	SHOULD(a, ret >= 0, "%s should succeed, errno: %i (%s)", what, errno,
	       strerror(errno));
	return true;
}

/* ---- Owned pages ---- */

/* A page as it is now: @data and @hva only if it is in a memslot. */
struct spot {
	u64 gpa;
	u8 attrs;
	bool there;
	bool bound;
	struct backing *data;
	u8 *hva;
};

static u64 own_window(struct actor *a)
{
	return OWN_GPA + a->id * WINDOW;
}

static u64 table_gpa(struct actor *a)
{
	return TABLE_GPA + a->id * PG;
}

static bool owns_common(struct actor *a, u64 page)
{
	return page % (nr_actors + 1) == a->id;
}

static u8 *attrs_of(struct actor *a, u64 gpa)
{
	if (gpa - own_window(a) < WINDOW)
		return &a->own_attrs[(gpa - own_window(a)) / PG];
	if (gpa - COMMON_GPA < COMMON_PAGES * PG)
		return &a->common_attrs[(gpa - COMMON_GPA) / PG];
	SHOULD(a, gpa / PG == table_gpa(a) / PG, "%#lx should be owned", gpa);
	return &a->table_attrs;
}

static struct spot look_up(struct actor *a, u64 gpa)
{
	bool own = gpa - own_window(a) < WINDOW;
	struct region *r = own ? &a->own : &common;
	struct spot s = { .gpa = gpa & ~(PG - 1), .attrs = *attrs_of(a, gpa) };
	u64 page = (gpa - r->gpa) / PG;

	if (gpa / PG == table_gpa(a) / PG) {
		s.there = true;
		return s;
	}
	s.there = r->there && gpa - r->gpa < r->pages * PG;
	if (!s.there)
		return s;
	s.bound = r->bound;
	s.hva = r->hva + page * PG;
	s.data = own ? &a->own_data[page] : &a->common_data[page];
	return s;
}

static u64 forbidden(u8 attrs)
{
	return (attrs & NR ? EXIT_R : 0) | (attrs & NW ? EXIT_W : 0) |
	       (attrs & NX ? EXIT_X : 0);
}

/* UNPROVIDED: the page is private, and there is no file that it could be in. */
enum verdict { ALLOWED, REFUSED, UNPROVIDED, MMIO };

static enum verdict judge_attrs(u8 attrs, bool there, bool bound, u64 access)
{
	if (attrs & MEM_ATTR_PRIVATE && !(there && bound))
		return UNPROVIDED;
	if (!there)
		return MMIO;
	return forbidden(attrs) & access ? REFUSED : ALLOWED;
}

static enum verdict judge(struct actor *a, const struct touch *t)
{
	struct spot s = look_up(a, t->gpa);

	return judge_attrs(s.attrs, s.there, s.bound, t->access);
}

/* Where the model has the byte at @gpa, in the copy that is in use. */
static u8 *byte_at(struct actor *a, u64 gpa)
{
	struct spot s = look_up(a, gpa);
	u64 offset = gpa % PG;

	SHOULD(a, s.data && (offset < EDGE || offset >= PG - EDGE),
	       "%#lx should be data", gpa);
	if (offset >= EDGE)
		offset = offset - PG + 2 * EDGE;
	return &s.data->data[!!(s.attrs & MEM_ATTR_PRIVATE)][offset];
}

static u64 word_at(struct actor *a, u64 gpa)
{
	u64 value = 0;
	int i;

	for (i = 7; i >= 0; i--)
		value = value << 8 | *byte_at(a, gpa + i);
	return value;
}

static void write_byte(struct actor *a, u64 gpa, u8 value)
{
	struct spot s = look_up(a, gpa);

	*byte_at(a, gpa) = value;
	if (gpa - own_window(a) < WINDOW && !(s.attrs & MEM_ATTR_PRIVATE) &&
	    (a->own.flags & KVM_MEM_LOG_DIRTY_PAGES) && !a->reaped)
		a->written[(gpa - a->own.gpa) / PG] = true;
}

static void write_word(struct actor *a, u64 gpa, u64 value)
{
	int i;

	for (i = 0; i < 8; i++)
		write_byte(a, gpa + i, value >> (8 * i));
}

static void check_shared(struct actor *a, u64 gpa)
{
	struct spot s = look_up(a, gpa);
	const u8 *data;

	if (!s.data)
		return;
	data = s.data->data[SHARED];
	SHOULD(a, !memcmp(s.hva, data, EDGE) &&
	       !memcmp(s.hva + PG - EDGE, data + EDGE, EDGE),
	       "the shared copy of the page at %#lx, attributes %#x, should be as in the model",
	       s.gpa, s.attrs);
}

static void check_touched(struct actor *a)
{
	int i;

	for (i = 0; i < a->nr_touches; i++)
		check_shared(a, a->touches[i].gpa);
}

/* ---- PV structures ---- */

/* Before anything changes that may let KVM write to them again. */
static void check_pv(struct actor *a)
{
	struct pv *p;

	for (p = a->pv; p < a->pv + 2; p++)
		SHOULD(a, !p->frozen || !memcmp(p->frozen, p->bytes, p->size),
		       "KVM should not write to the %s at %#lx",
		       p == a->pv ? "clock" : "steal time", p->gpa);
}

/* After it has changed. */
static void note_pv(struct actor *a)
{
	struct spot s;
	struct pv *p;

	for (p = a->pv; p < a->pv + 2; p++) {
		p->frozen = NULL;
		if (!p->gpa)
			continue;
		s = look_up(a, p->gpa);
		if (s.data)
			s.data->had_pv = true;
		if (!s.there || !(s.attrs & (NW | MEM_ATTR_PRIVATE)))
			continue;
		p->frozen = s.hva + p->offset;
		memcpy(p->bytes, p->frozen, p->size);
	}
}

/* ---- Attributes of owned pages ---- */

static bool is_accepted(u8 attrs)
{
	return accepted & BIT(attrs);
}

static u8 any_attrs(struct actor *a)
{
	u8 attrs;

	do {
		attrs = any(a, 16);
	} while (!is_accepted(attrs));
	return any(a, 3) ? attrs : attrs & MEM_ATTR_PRIVATE;
}

static bool try_set(struct actor *a, u64 gpa, u64 size, u8 attrs)
{
	int ret = ATTEMPT(a, __vm_set_memory_attributes(vm, gpa, size, attrs));

	return worked(a, ret, "Setting attributes");
}

static bool set_attrs(struct actor *a, u64 gpa, u64 pages, u8 attrs)
{
	u64 i;

	check_pv(a);
	if (!try_set(a, gpa, pages * PG, attrs))
		return false;
	for (i = 0; i < pages; i++)
		*attrs_of(a, gpa + i * PG) = attrs;
	note(a, "set %#lx to %#x", gpa, attrs);
	note_pv(a);
	return true;
}

static int update_attrs(struct kvm_memory_attributes_update *updates, int nr,
			u32 *done)
{
	struct kvm_update_memory_attributes args = {
		.updates = (uintptr_t)updates,
		.nr_updates = nr,
		.done = *done,
	};
	int ret = __vm_ioctl(vm, KVM_UPDATE_MEMORY_ATTRIBUTES, &args);

	*done = args.done;
	return ret;
}

/* The model of one update; false if some page would get what it cannot have. */
static bool model_update(struct actor *a, struct kvm_memory_attributes_update *u)
{
	u64 gpa, end = u->address + u->size;
	u8 *attrs;

	for (gpa = u->address; gpa < end; gpa += PG)
		if (!is_accepted((*attrs_of(a, gpa) & ~u->clear) | u->set))
			return false;
	for (gpa = u->address; gpa < end; gpa += PG) {
		attrs = attrs_of(a, gpa);
		*attrs = (*attrs & ~u->clear) | u->set;
	}
	return true;
}

static void own_range(struct actor *a, u64 *gpa, u64 *pages)
{
	u64 page = any(a, WINDOW_PAGES);

	switch (any(a, 5)) {
	case 0:
		*pages = 1;
		break;
	case 1:
		*pages = any(a, 32) + 1;
		break;
	case 2:		/* a hugepage */
		page = page / 512 * 512;
		*pages = 512;
		break;
	case 3:
		page = 0;
		*pages = WINDOW_PAGES;
		break;
	default:
		*pages = any(a, WINDOW_PAGES) + 1;
	}
	*pages = min_t(u64, *pages, WINDOW_PAGES - page);
	*gpa = own_window(a) + page * PG;
}

static u64 any_common(struct actor *a)
{
	u64 page = any(a, COMMON_PAGES / (nr_actors + 1));

	return COMMON_GPA + (page * (nr_actors + 1) + a->id) * PG;
}

static void op_set(struct actor *a)
{
	u8 attrs = any_attrs(a);
	u64 gpa, pages = 1;

	switch (any(a, 8)) {
	case 0:
		gpa = table_gpa(a);
		attrs &= NOTHING;
		break;
	case 1:
	case 2:
	case 3:
		gpa = any_common(a);
		break;
	default:
		own_range(a, &gpa, &pages);
	}
	say(a, "set [%#lx, %#lx) to %#x", gpa, gpa + pages * PG, attrs);
	set_attrs(a, gpa, pages, attrs);
}

static void op_update(struct actor *a)
{
	struct kvm_memory_attributes_update updates[8];
	u32 nr = any(a, 8) + 1, done = 0, i;
	u64 gpa, pages, mask = protected ? 15 : 7;
	int ret, error;

	for (i = 0; i < nr; i++) {
		gpa = any_common(a);
		pages = 1;
		if (any(a, 2))
			own_range(a, &gpa, &pages);
		updates[i] = (struct kvm_memory_attributes_update) {
			.address = gpa, .size = pages * PG,
			.set = any_attrs(a), .clear = any(a, mask + 1),
		};
		updates[i].clear &= ~updates[i].set;
		if (!updates[i].set && !updates[i].clear)
			updates[i].clear = NX;
	}
	say(a, "update of %u ranges", nr);
	check_pv(a);
	ret = ATTEMPT(a, update_attrs(updates, nr, &done));
	error = errno;
	for (i = 0; i < done; i++)
		SHOULD(a, model_update(a, &updates[i]),
		       "update %u should be refused", i);
	note_pv(a);
	SHOULD(a, !ret == (done == nr), "%u updates done, returns %i", done,
	       ret);
	errno = error;
	if (!ret || failed(a, ret))
		return;
	SHOULD(a, error == EINVAL && !model_update(a, &updates[done]),
	       "update %u of [%#llx, +%#llx), set %#llx, clear %#llx should not fail with %s",
	       done, updates[done].address, updates[done].size,
	       updates[done].set, updates[done].clear, strerror(error));
}

/* What must change nothing: the next look at the attributes tells. */
static void op_set_wrong(struct actor *a)
{
	struct kvm_memory_attributes args = {
		.address = own_window(a), .size = WINDOW, .attributes = NW,
	};
	int ret;

	switch (any(a, 6)) {
	case 0:
		args.flags = 1;
		break;
	case 1:
		args.attributes = NR;
		break;
	case 2:
		args.attributes = BIT(4 + any(a, 28));
		break;
	case 3:
		args.address += 1ull << any(a, 12);
		break;
	case 4:
		args.size = 0;
		break;
	default:
		args.size = -args.address + any(a, 2) * PG;
	}
	say(a, "set [%#llx, +%#llx) to %#llx with flags %llu", args.address,
	    args.size, args.attributes, args.flags);
	ret = ATTEMPT(a, __vm_ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, &args));
	SHOULD(a, ret == -1 && (errno == EINVAL || failed(a, ret)),
	       "it should fail with EINVAL, returns %i, errno: %i", ret, errno);
}

static void op_far(struct actor *a)
{
	u64 first = any(a, FAR_BLOCKS), nr = any(a, FAR_BLOCKS - first) + 1, i;
	u64 gpa = FAR_GPA * (a->id + 1);
	u8 attrs = any_attrs(a);

	say(a, "set blocks [%lu, %lu) of FAR to %#x", first, first + nr, attrs);
	gpa += first * FAR_BLOCK;
	if (!try_set(a, gpa, nr * FAR_BLOCK, attrs))
		return;
	for (i = first; i < first + nr; i++)
		a->far_attrs[i] = attrs;
}

typedef bool (*check_extent_t)(struct actor *a,
			       struct kvm_memory_attributes_extent *e);

static void check_extents(struct actor *a, u64 *at,
			  struct kvm_get_memory_attributes *args, bool alone,
			  check_extent_t check)
{
	struct kvm_memory_attributes_extent *e = (void *)args->extents;
	u64 last = -1ull;
	int i;

	for (i = 0; i < args->nr_extents; i++, e++) {
		SHOULD(a, e->address == *at && e->size &&
		       (!alone || e->attributes != last),
		       "extent %i should begin at %#lx, and differ from %#lx",
		       i, *at, last);
		SHOULD(a, check(a, e), "[%#llx, +%#llx) should not be %#llx",
		       e->address, e->size, e->attributes);
		*at += e->size;
		last = e->attributes;
	}
}

/*
 * Read back [gpa, gpa + size), some extents at a time.  @alone: no other actor
 * changes anything there.
 */
static void get_attrs(struct actor *a, u64 gpa, u64 size, bool alone,
		      check_extent_t check)
{
	struct kvm_memory_attributes_extent extents[64];
	struct kvm_get_memory_attributes args = {
		.address = gpa, .size = size, .extents = (uintptr_t)extents,
	};
	u64 at = gpa;
	int ret;

	while (args.size) {
		args.nr_extents = any(a, ARRAY_SIZE(extents)) + 1;
		ret = ATTEMPT(a, __vm_ioctl(vm, KVM_GET_MEMORY_ATTRIBUTES,
					    &args));
		if (!worked(a, ret, "KVM_GET_MEMORY_ATTRIBUTES"))
			return;
		check_extents(a, &at, &args, alone, check);
	}
	SHOULD(a, at == gpa + size, "the extents should end at %#lx, not %#lx",
	       gpa + size, at);
}

static bool is_own_extent(struct actor *a,
			  struct kvm_memory_attributes_extent *e)
{
	u64 i;

	for (i = 0; i < e->size; i += PG)
		if (*attrs_of(a, e->address + i) != e->attributes)
			return false;
	return true;
}

static bool is_far_extent(struct actor *a,
			  struct kvm_memory_attributes_extent *e)
{
	u64 i, base = FAR_GPA * (a->id + 1);

	for (i = 0; i < e->size; i += FAR_BLOCK)
		if (a->far_attrs[(e->address + i - base) / FAR_BLOCK] !=
		    e->attributes)
			return false;
	return true;
}

static u32 seen_by(struct fact *f, int id)
{
	u32 seen;

	pthread_mutex_lock(&f->note);
	seen = f->seen[id];
	pthread_mutex_unlock(&f->note);
	return seen;
}

static void watch(struct fact *f, int id)
{
	pthread_mutex_lock(&f->note);
	f->seen[id] = f->possible;
	pthread_mutex_unlock(&f->note);
}

static bool is_common_extent(struct actor *a,
			     struct kvm_memory_attributes_extent *e)
{
	u64 page = (e->address - COMMON_GPA) / PG, end = page + e->size / PG;
	u32 id;

	for (; page < end; page++) {
		id = page % (nr_actors + 1);
		if (id == a->id && a->common_attrs[page] != e->attributes)
			return false;
		if (id == nr_actors &&
		    !(seen_by(&contested[page / (nr_actors + 1)].attrs, a->id) &
		      BIT(e->attributes)))
			return false;
	}
	return true;
}

static void op_get(struct actor *a)
{
	u64 gpa, pages;
	int i;

	switch (any(a, 3)) {
	case 0:
		say(a, "get FAR");
		get_attrs(a, FAR_GPA * (a->id + 1), FAR_BLOCK * FAR_BLOCKS,
			  true, is_far_extent);
		break;
	case 1:
		say(a, "get COMMON");
		for (i = 0; i < nr_common_contested; i++)
			watch(&contested[i].attrs, a->id);
		get_attrs(a, COMMON_GPA, COMMON_PAGES * PG, false,
			  is_common_extent);
		break;
	default:
		own_range(a, &gpa, &pages);
		say(a, "get [%#lx, +%#lx)", gpa, pages * PG);
		get_attrs(a, gpa, pages * PG, true, is_own_extent);
	}
}

/* ---- Running the guest ---- */

/* Why the guest has been left.  AGAIN: for a reason that is dealt with. */
enum event { DONE, FAULT, IO, MMIO_EXIT, AGAIN };

static void reap_ring(struct actor *a);

static bool may_rerun(struct actor *a, int error)
{
	if (!errors_allowed || (error != ENOMEM && error != EFAULT &&
				error != EAGAIN))
		return false;
	a->failures++;
	return true;
}

static enum event event_of(struct actor *a)
{
	struct kvm_run *run = a->vcpu->run;

	if (run->exit_reason == KVM_EXIT_MMIO)
		return MMIO_EXIT;
	if (run->exit_reason == KVM_EXIT_DIRTY_RING_FULL) {
		reap_ring(a);
		a->reaped = true;
		return AGAIN;
	}
	SHOULD(a, run->exit_reason == KVM_EXIT_IO &&
	       (run->io.port == DONE_PORT || run->io.port == DATA_PORT),
	       "the guest should go on, exit: %s, port %#x, value %#x",
	       exit_story(run), run->io.port,
	       *(u32 *)((u8 *)run + run->io.data_offset));
	return run->io.port == DONE_PORT ? DONE : IO;
}

/* To KVM's emulator, memory that cannot be had is MMIO: let nothing fail then. */
static bool is_emulated(const struct order *o)
{
	return o->forced || o->insn == INS || o->insn == OUTS;
}

static enum event enter(struct actor *a)
{
	struct kvm_run *run = a->vcpu->run;
	int ret;

	run->exit_reason = KVM_EXIT_UNKNOWN;
	ret = is_emulated(a->order) ? _vcpu_run(a->vcpu) :
				      ATTEMPT(a, _vcpu_run(a->vcpu));
	if (!ret)
		return event_of(a);
	if (errno == EFAULT && run->exit_reason == KVM_EXIT_MEMORY_FAULT)
		return FAULT;
	SHOULD(a, may_rerun(a, errno),
	       "the guest should run, errno: %i (%s), exit: %s", errno,
	       strerror(errno), exit_story(run));
	return AGAIN;
}

static u8 mmio_byte(u64 gpa)
{
	return gpa ^ gpa >> 8 ^ 0x5a;
}

/* What the device of the data port has, or gets. */
static u8 port_byte(struct actor *a, int i)
{
	return a->order->value + i * 7;
}

static void serve_port(struct actor *a)
{
	struct kvm_run *run = a->vcpu->run;
	u8 *data = (u8 *)run + run->io.data_offset;
	int i, n = run->io.size * run->io.count;

	note(a, "%i bytes of I/O", n);
	for (i = 0; i < n; i++, a->port_bytes++) {
		SHOULD(a, a->port_bytes < a->order->count,
		       "the device should see %lu bytes only", a->order->count);
		if (run->io.direction == KVM_EXIT_IO_IN)
			data[i] = port_byte(a, a->port_bytes);
		else
			SHOULD(a, data[i] == *byte_at(a, a->gpa + a->port_bytes),
			       "byte %i should be %#x, is %#x", a->port_bytes,
			       *byte_at(a, a->gpa + a->port_bytes), data[i]);
	}
}

static void serve_mmio(struct actor *a)
{
	struct kvm_run *run = a->vcpu->run;
	u64 at = run->mmio.phys_addr - a->gpa;
	int i;

	SHOULD(a, at < 8 && at + run->mmio.len <= 8,
	       "there should be no MMIO at %#llx", run->mmio.phys_addr);
	for (i = 0; i < run->mmio.len; i++) {
		if (!run->mmio.is_write)
			run->mmio.data[i] = mmio_byte(a->gpa + at + i);
		else
			SHOULD(a, run->mmio.data[i] ==
			       (u8)(a->order->value >> 8 * (at + i)),
			       "MMIO should write %#lx", a->order->value);
	}
	SHOULD(a, run->mmio.is_write == (a->order->insn == STORE),
	       "MMIO should be a %s", insn_names[a->order->insn]);
	note(a, "MMIO");
	a->was_mmio = true;
	a->mmios++;
}

static u64 mmio_word(u64 gpa)
{
	u64 value = 0;
	int i;

	for (i = 7; i >= 0; i--)
		value = value << 8 | mmio_byte(gpa + i);
	return value;
}

/* ---- Orders to owned pages ---- */

static bool is_string(u64 insn)
{
	return insn == MOVS || insn == STOS || insn == OUTS || insn == INS;
}

static void add_touches(struct actor *a, u64 gpa, u64 size, u64 access,
			bool string)
{
	u64 end = gpa + size, at = gpa, next;

	for (; at < end; at = next) {
		next = min_t(u64, (at & ~(PG - 1)) + PG, end);
		a->touches[a->nr_touches++] = (struct touch) {
			.gpa = at & ~(PG - 1),
			.access = access,
			.first = string ? at - gpa : 0,
			.end = string ? next - gpa : 1,
		};
	}
}

static const u64 accesses[NR_INSNS] = {
	[LOAD] = EXIT_R, [STORE] = EXIT_W, [XADD] = EXIT_R | EXIT_W,
	[CMPXCHG] = EXIT_R | EXIT_W, [FETCH] = EXIT_X, [MOVS] = EXIT_W,
	[STOS] = EXIT_W, [OUTS] = EXIT_R, [INS] = EXIT_W,
};

/* The iterations up to @done have been carried out. */
static void apply_string(struct actor *a, int done)
{
	struct order *o = a->order;
	int i;

	for (i = a->done; i < done; i++) {
		if (o->insn == MOVS)
			write_byte(a, a->gpa + i, *byte_at(a, o->from + i));
		else if (o->insn == STOS)
			write_byte(a, a->gpa + i, o->value);
		else if (o->insn == INS)
			write_byte(a, a->gpa + i, port_byte(a, i));
	}
	a->done = done;
}

/* mov $value, %eax; ret */
static u64 code_word(u32 value)
{
	return 0xb8 | (u64)value << 8 | 0xc3ull << 40;
}

static bool is_code(u64 word)
{
	return (word & ~0xffffffff00ull) == (0xb8 | 0xc3ull << 40);
}

/* The order is complete: RAX or the like, and what memory is then. */
static void apply_order(struct actor *a)
{
	struct order *o = a->order;
	u64 should = 0, word;

	if (is_string(o->insn)) {
		apply_string(a, o->count);
		should = o->at + o->count;
	} else if (o->insn == NOP || o->insn == WRMSR) {
		return;
	} else if (a->was_mmio) {
		should = mmio_word(a->gpa);
	} else {
		word = word_at(a, a->gpa);
		should = o->insn == FETCH ? (word >> 8) & 0xffffffff : word;
		if (o->insn == STORE)
			write_word(a, a->gpa, o->value);
		if (o->insn == XADD)
			write_word(a, a->gpa, word + o->value);
		if (o->insn == CMPXCHG && word == o->from)
			write_word(a, a->gpa, o->value);
	}
	SHOULD(a, o->insn == STORE || o->result == should,
	       "the result should be %#lx, is %#lx, attributes %#x", should,
	       o->result, *attrs_of(a, a->gpa));
}

static const char *backing_of(struct actor *a, u64 gpa)
{
	struct spot s = look_up(a, gpa);

	if (!s.there)
		return "no memslot";
	return s.bound ? "with guest_memfd" : "without guest_memfd";
}

/* Nothing of what is complete was refused. */
static void check_done(struct actor *a)
{
	struct touch *t;
	enum verdict v;

	for (t = a->touches; t < a->touches + a->nr_touches; t++) {
		if (t->end <= a->done)
			continue;
		v = judge(a, t);
		SHOULD(a, v == (a->was_mmio ? MMIO : ALLOWED),
		       "access %#lx to the page at %#lx, attributes %#x, %s, should %s",
		       t->access, t->gpa, *attrs_of(a, t->gpa),
		       backing_of(a, t->gpa),
		       v == MMIO ? "be MMIO" : v == ALLOWED ? "be no MMIO" :
		       "exit");
	}
	SHOULD(a, !a->table || !(a->table_attrs & NR),
	       "the walk by the page table at %#lx should exit", a->table);
	apply_order(a);
	check_touched(a);
}

/* The hardware's walk counts as a write. */
static void check_table_fault(struct actor *a, u64 flags)
{
	u64 refused = forbidden(a->table_attrs) & (EXIT_R | EXIT_W);

	SHOULD(a, refused & flags && !(flags & (flags - 1)),
	       "a page table with attributes %#x should not exit with %#lx",
	       a->table_attrs, flags);
}

static bool explains(struct actor *a, struct touch *t, u64 flags)
{
	struct spot s = look_up(a, t->gpa);
	u64 private = s.attrs & MEM_ATTR_PRIVATE ? EXIT_P : 0;
	u64 access = flags & ~EXIT_P;
	enum verdict v = judge(a, t);

	if (v == UNPROVIDED && flags == EXIT_P)
		return true;
	return (v == REFUSED || v == UNPROVIDED) &&
	       (flags & EXIT_P) == private && access &&
	       !(access & (access - 1)) &&
	       (access & t->access & forbidden(s.attrs));
}

static struct touch *find_refused(struct actor *a, u64 gpa, u64 flags)
{
	struct touch *t;

	for (t = a->touches; t < a->touches + a->nr_touches; t++)
		if (t->gpa == gpa && t->end > a->done && explains(a, t, flags))
			return t;
	return NULL;
}

static void check_progress(struct actor *a, struct touch *refused)
{
	struct kvm_regs regs;
	struct touch *t;
	int done;

	vcpu_regs_get(a->vcpu, &regs);
	SHOULD(a, regs.rip == a->order->rip,
	       "RIP should be on the instruction at %#lx, is %#llx",
	       a->order->rip, regs.rip);
	if (!is_string(a->order->insn))
		return;
	done = a->order->count - regs.rcx;
	SHOULD(a, done == max_t(int, refused->first, a->done),
	       "%i iterations should be done, not %i", refused->first, done);
	for (t = a->touches; t < a->touches + a->nr_touches; t++)
		SHOULD(a, t->first >= done || t->end <= a->done ||
		       judge(a, t) == ALLOWED,
		       "the page at %#lx should be refused before that at %#lx",
		       t->gpa, refused->gpa);
	apply_string(a, done);
}

/* What was refused is allowed now, or the same exit is asked for again. */
static void respond(struct actor *a, struct touch *t)
{
	struct kvm_memory_attributes_update u = {
		.address = t->gpa, .size = PG, .clear = NOTHING,
	};
	u8 attrs = *attrs_of(a, t->gpa);
	u32 done = 0;

	if (!any(a, 4))
		return;
	if (judge(a, t) == UNPROVIDED)
		attrs &= ~MEM_ATTR_PRIVATE;
	if (attrs != *attrs_of(a, t->gpa) || any(a, 2)) {
		attrs &= any(a, 2) ? MEM_ATTR_PRIVATE : MEM_ATTR_PRIVATE | NX;
		if (t->access & EXIT_X)
			attrs &= ~NX;
		set_attrs(a, t->gpa, 1, attrs);
		return;
	}
	check_pv(a);
	if (worked(a, ATTEMPT(a, update_attrs(&u, 1, &done)), "The update"))
		*attrs_of(a, t->gpa) &= ~NOTHING;
	note(a, "update of %#lx", t->gpa);
	note_pv(a);
}

static void handle_fault(struct actor *a)
{
	struct kvm_run *run = a->vcpu->run;
	u64 flags = run->memory_fault.flags, gpa = run->memory_fault.gpa;
	struct touch table = { .gpa = a->table, .access = EXIT_R };
	struct touch *t;

	SHOULD(a, run->memory_fault.size == PG, "the exit should name a page");
	note(a, "exit %#lx at %#lx", flags, gpa);
	a->refusals++;
	if (a->table && gpa == a->table) {
		check_table_fault(a, flags);
		respond(a, &table);
		return;
	}
	t = find_refused(a, gpa, flags);
	/* The private page could not be allocated. */
	if (!t && flags == EXIT_P && may_rerun(a, ENOMEM))
		return;
	SHOULD(a, t, "no access to %#lx should exit with %#lx, attributes %#x",
	       gpa, flags, gpa == (a->gpa & ~(PG - 1)) ? *attrs_of(a, gpa) : 0);
	check_progress(a, t);
	check_touched(a);
	respond(a, t);
}

static void carry_out(struct actor *a)
{
	enum event e;

	a->done = 0;
	a->port_bytes = 0;
	a->was_mmio = false;
	a->reaped = false;
	a->order->result = 0;
	while ((e = enter(a)) != DONE) {
		if (e == FAULT)
			handle_fault(a);
		else if (e == MMIO_EXIT)
			serve_mmio(a);
		else if (e == IO)
			serve_port(a);
	}
	check_done(a);
}

static void new_order(struct actor *a, enum insn_kind insn, u64 gpa)
{
	*a->order = (struct order) {
		.insn = insn,
		.forced = forced && insn != FETCH && any(a, 2),
		.at = gpa,
		.value = unique(a),
	};
	a->gpa = gpa;
	a->nr_touches = 0;
	a->table = 0;
}

/* A word of one page, or of two that are both there. */
static u64 any_word(struct actor *a, u64 page)
{
	u64 offset = any(a, 2 * EDGE / 8) * 8;

	if (offset == EDGE && look_up(a, page - PG).there && any(a, 2))
		return page - 1 - any(a, 7);
	return page + (offset < EDGE ? offset : PG - 2 * EDGE + offset);
}

static bool is_own(struct actor *a, u64 gpa)
{
	return gpa - own_window(a) < WINDOW;
}

static u64 any_page(struct actor *a)
{
	u64 base = a->own.there && any(a, 8) ? a->own.gpa : own_window(a);

	if (!any(a, 3))
		return any_common(a);
	if (any(a, 2))
		return base + any(a, OWN_PAGES) * PG;
	return base + any(a, HOT_PAGES) * PG;
}

static void say_order(struct actor *a)
{
	struct order *o = a->order;

	say(a, "%s%s at %#lx, attributes %#x, from %#lx, count %lu",
	    o->forced ? "emulated " : "", insn_names[o->insn], o->at,
	    *attrs_of(a, a->gpa), o->from, o->count);
}

/* By a page table that the actor protects. */
static void use_alias(struct actor *a)
{
	if (a->gpa - COMMON_GPA >= COMMON_PAGES * PG || any(a, 2))
		return;
	a->table = table_gpa(a);
	a->order->at = ALIAS_GVA + a->id * PG_SIZE_2M + a->gpa - COMMON_GPA;
}

static void op_access(struct actor *a)
{
	static const enum insn_kind choices[] = {
		LOAD, LOAD, STORE, STORE, XADD, CMPXCHG,
	};
	enum insn_kind insn = choices[any(a, ARRAY_SIZE(choices))];
	u64 page = any_page(a), gpa = page + any(a, EDGE / 8) * 8;
	bool there = look_up(a, page).there;

	if (!there && insn != STORE)
		insn = LOAD;
	if ((insn == LOAD || insn == STORE) && there && is_own(a, page) &&
	    page != own_window(a))
		gpa = any_word(a, page);
	new_order(a, insn, gpa);
	if (insn == STORE && gpa % PG == 0)
		a->order->value = code_word(a->order->value);
	if (insn == CMPXCHG)
		a->order->from = any(a, 4) ? word_at(a, gpa) : unique(a);
	add_touches(a, gpa, 8, accesses[insn], false);
	use_alias(a);
	say_order(a);
	carry_out(a);
}

/* KVM cannot fetch from a device, and not from an unprovided page either. */
static void op_fetch(struct actor *a)
{
	struct touch t = { .access = EXIT_X };
	struct spot s;
	int i;

	for (i = 0; i < 50; i++) {
		t.gpa = any_page(a);
		s = look_up(a, t.gpa);
		if (s.there && judge(a, &t) != UNPROVIDED &&
		    is_code(word_at(a, t.gpa)))
			break;
	}
	if (i == 50) {
		say(a, "fetch from nowhere");
		return;
	}
	new_order(a, FETCH, t.gpa);
	add_touches(a, t.gpa, 1, EXIT_X, false);
	use_alias(a);
	say_order(a);
	carry_out(a);
}

/* A run of bytes that are data: at the start of a page, or over an edge. */
static u64 any_string(struct actor *a, int n)
{
	u64 page, before = any(a, n - 1) + 1;

	do {
		page = any_page(a);
	} while (!look_up(a, page).there);
	if (is_own(a, page) && page != own_window(a) &&
	    look_up(a, page - PG).there && any(a, 2))
		return page - before;
	return page + any(a, EDGE - n + 1);
}

static void op_string(struct actor *a)
{
	enum insn_kind insn = MOVS + any(a, 4);
	int n = any(a, 47) + 2;
	u64 from = 0, to;

	/* Some page is there: COMMON is. */
	to = any_string(a, n);
	if (insn == MOVS) {
		from = any_string(a, n);
		if (from / PG <= (to + n) / PG && to / PG <= (from + n) / PG)
			insn = STOS;
	}
	new_order(a, insn, to);
	a->order->count = n;
	if (insn == MOVS) {
		a->order->from = from;
		add_touches(a, from, n, EXIT_R, true);
	}
	add_touches(a, to, n, accesses[insn], true);
	say_order(a);
	carry_out(a);
}

/* ---- PV structures ---- */

static void enable_pv(struct actor *a, struct pv *p, u64 value)
{
	if (a->nested) {
		vcpu_set_msr(a->vcpu, p->msr, value);
		new_order(a, NOP, 0);
	} else {
		new_order(a, WRMSR, 0);
		a->order->at = p->msr;
		a->order->value = value;
	}
	carry_out(a);
}

static void op_pv(struct actor *a)
{
	struct pv *p = &a->pv[any(a, 2)];
	u64 page = any_page(a);
	struct spot s = look_up(a, page);
	bool off = !any(a, 6);

	say(a, "%s %s at %#lx, attributes %#x", off ? "disable" : "enable",
	    p == a->pv ? "clock" : "steal time", page, s.attrs);
	check_pv(a);
	p->gpa = off ? 0 : page;
	note_pv(a);
	enable_pv(a, p, off ? 0 : (page + p->offset) | KVM_MSR_ENABLED);
	check_pv(a);
	if (!off && p == a->pv && s.there && !errors_allowed &&
	    !(s.attrs & (NR | NW | MEM_ATTR_PRIVATE)))
		SHOULD(a, *(u32 *)(s.hva + p->offset),
		       "KVM should write the clock");
}

/* ---- Memslots of owned pages ---- */

/* No allocation is made to fail here: vmalloc() would print a call trace. */
static int set_region(struct region *r, u64 gpa, u32 flags, bool there)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = r->slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = there ? r->pages * PG : 0,
		.userspace_addr = (uintptr_t)r->hva,
		.guest_memfd = r->memfd,
	};

	return __vm_set_region2(vm, &region);
}

/* All that the file held is lost. */
static void forget_private(struct actor *a)
{
	int i;

	for (i = 0; i < OWN_PAGES; i++)
		memset(a->own_data[i].data[PRIVATE], 0, 2 * EDGE);
}

static void close_memfd(struct actor *a)
{
	say(a, "close guest_memfd");
	if (a->own.memfd < 0)
		return;
	pthread_rwlock_rdlock(&fork_lock);
	close(a->own.memfd);
	pthread_rwlock_unlock(&fork_lock);
	a->own.memfd = -1;
	a->own.bound = false;
	forget_private(a);
}

static u64 any_base(struct actor *a)
{
	static const u64 bases[] = { 0, 512, 37, 256, 0, 512 };

	return own_window(a) + bases[any(a, ARRAY_SIZE(bases))] * PG;
}

static bool create_own(struct actor *a)
{
	bool bind = protected && any(a, 4);
	u64 gpa = any_base(a);
	u64 size = OWN_PAGES * PG;
	u32 flags = 0;

	say(a, "create memslot at %#lx, %s", gpa, bind ? "bound" : "plain");
	if (bind && a->own.memfd < 0) {
		a->own.memfd = ATTEMPT(a, __vm_create_guest_memfd(vm, size,
								  memfd_flags));
		if (!worked(a, a->own.memfd, "KVM_CREATE_GUEST_MEMFD"))
			return false;
	}
	if (bind)
		flags = KVM_MEM_GUEST_MEMFD;
	else if (any(a, 2))
		flags = KVM_MEM_LOG_DIRTY_PAGES;
	if (!worked(a, set_region(&a->own, gpa, flags, true),
		    "Creating the memslot"))
		return false;
	a->own.gpa = gpa;
	a->own.flags = flags;
	a->own.there = true;
	a->own.bound = bind;
	memset(a->written, 0, sizeof(a->written));
	return true;
}

static void delete_own(struct actor *a)
{
	say(a, "delete memslot at %#lx", a->own.gpa);
	if (!worked(a, ATTEMPT(a, set_region(&a->own, a->own.gpa, 0, false)),
		    "Deleting the memslot"))
		return;
	a->own.there = false;
	a->own.bound = false;
}

/* Move it, or start or stop its dirty log; refused if it is bound. */
static void change_own(struct actor *a)
{
	u64 gpa = a->own.gpa;
	u32 flags = a->own.flags;
	long ret;

	if (any(a, 2))
		gpa = any_base(a);
	else
		flags ^= KVM_MEM_LOG_DIRTY_PAGES;
	say(a, "change memslot to %#lx, flags %#x", gpa, flags);
	ret = set_region(&a->own, gpa, flags, true);
	if (a->own.flags & KVM_MEM_GUEST_MEMFD) {
		SHOULD(a, ret == -1 && (errno == EINVAL || errno == EBADF ||
					failed(a, ret)),
		       "a memslot with private memory should not change");
		return;
	}
	if (!worked(a, ret, "Changing the memslot"))
		return;
	a->own.gpa = gpa;
	if (a->own.flags == flags)
		return;
	a->own.flags = flags;
	memset(a->written, 0, sizeof(a->written));
}

static void op_slot(struct actor *a)
{
	check_pv(a);
	if (!a->own.there)
		create_own(a);
	else if (!any(a, 3))
		delete_own(a);
	else if (protected && !any(a, 5))
		close_memfd(a);
	else
		change_own(a);
	note_pv(a);
}

/* ---- Holes ---- */

static void access_word(struct actor *a, enum insn_kind insn, u64 gpa)
{
	new_order(a, insn, gpa);
	add_touches(a, gpa, 8, accesses[insn], false);
	say_order(a);
	carry_out(a);
}

/* Some pages are used much more often than others, see any_page(). */
static void any_file_range(struct actor *a, u64 *first, u64 *nr)
{
	*first = any(a, any(a, 2) ? HOT_PAGES : OWN_PAGES);
	*nr = any(a, 2) ? 1 : any(a, OWN_PAGES - *first) + 1;
}

static void punch(struct actor *a, u64 first, u64 nr)
{
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	u64 i;
	int ret;

	say(a, "a hole of pages [%lu, %lu)", first, first + nr);
	ret = ATTEMPT(a, fallocate(a->own.memfd, mode, first * PG, nr * PG));
	if (!worked(a, ret, "Punching a hole"))
		return;
	for (i = first; i < first + nr; i++)
		memset(a->own_data[i].data[PRIVATE], 0, 2 * EDGE);
	if (a->own.there)
		access_word(a, LOAD, a->own.gpa + first * PG + 8);
}

static void op_punch(struct actor *a)
{
	u64 first, nr;
	int ret;

	say(a, "punch nothing");
	if (a->own.memfd < 0)
		return;
	any_file_range(a, &first, &nr);
	check_pv(a);
	if (any(a, 3)) {
		if (a->own.there)
			access_word(a, STORE, a->own.gpa + first * PG + 8);
		punch(a, first, nr);
		return;
	}
	nr = min_t(u64, nr, 32);
	say(a, "allocate pages [%lu, %lu)", first, first + nr);
	ret = ATTEMPT(a, fallocate(a->own.memfd, FALLOC_FL_KEEP_SIZE,
				   first * PG, nr * PG));
	worked(a, ret, "Allocating pages");
}

/* ---- Dirty logs ---- */

static void check_logged(struct actor *a, const unsigned long *bitmap)
{
	u64 i;

	for (i = 0; i < OWN_PAGES; i++)
		SHOULD(a, !a->written[i] || test_bit(i, bitmap),
		       "page %lu of the memslot should be dirty", i);
}

static void get_log(struct actor *a)
{
	unsigned long bitmap[OWN_PAGES / 64] = {};
	struct kvm_dirty_log args = {
		.slot = a->own.slot, .dirty_bitmap = bitmap,
	};
	struct kvm_clear_dirty_log clear = {
		.slot = a->own.slot, .dirty_bitmap = bitmap,
		.first_page = 64 * any(a, 4), .num_pages = 64 * (any(a, 4) + 1),
	};

	say(a, "get dirty log");
	if (!worked(a, ATTEMPT(a, __vm_ioctl(vm, KVM_GET_DIRTY_LOG, &args)),
		    "KVM_GET_DIRTY_LOG"))
		return;
	check_logged(a, bitmap);
	if (!manual_log) {
		memset(a->written, 0, sizeof(a->written));
		return;
	}
	say(a, "clear dirty log of [%llu, +%u)", clear.first_page,
	    clear.num_pages);
	clear.dirty_bitmap = bitmap + clear.first_page / 64;
	if (worked(a, ATTEMPT(a, __vm_ioctl(vm, KVM_CLEAR_DIRTY_LOG, &clear)),
		   "KVM_CLEAR_DIRTY_LOG"))
		memset(a->written + clear.first_page, 0, clear.num_pages);
}

/*
 * A reset of another actor may reset what has been harvested here, and flush TLBs
 * only after the ioctl here has found nothing left to do: one actor at a time.
 */
static void reap_ring(struct actor *a)
{
	struct kvm_dirty_gfn *gfns = vcpu_map_dirty_ring(a->vcpu), *g;
	unsigned long bitmap[OWN_PAGES / 64] = {};

	pthread_mutex_lock(&log_lock);
	for (;;) {
		g = &gfns[a->vcpu->fetch_index % RING_ENTRIES];
		/* Pairs with smp_wmb() in kvm_dirty_ring_push(). */
		if (smp_load_acquire(&g->flags) != KVM_DIRTY_GFN_F_DIRTY)
			break;
		if (g->slot == a->own.slot && g->offset < OWN_PAGES)
			__set_bit(g->offset, bitmap);
		/* Pairs with smp_load_acquire() in kvm_dirty_gfn_harvested(). */
		smp_store_release(&g->flags, KVM_DIRTY_GFN_F_RESET);
		a->vcpu->fetch_index++;
	}
	check_logged(a, bitmap);
	memset(a->written, 0, sizeof(a->written));
	SHOULD(a, (int)kvm_vm_reset_dirty_ring(vm) >= 0,
	       "KVM_RESET_DIRTY_RINGS should succeed, errno: %i", errno);
	pthread_mutex_unlock(&log_lock);
}

static void toggle_log(struct actor *a, struct region *r)
{
	u64 bitmap[COMMON_PAGES / 64];
	struct kvm_dirty_log args = { .slot = r->slot, .dirty_bitmap = bitmap };

	say(a, "dirty log of memslot %u", r->slot);
	if (r->memfd >= 0)
		return;
	pthread_mutex_lock(&log_lock);
	if (any(a, 2) && worked(a, set_region(r, r->gpa, r->flags ^
				KVM_MEM_LOG_DIRTY_PAGES, true),
				"Changing flags"))
		r->flags ^= KVM_MEM_LOG_DIRTY_PAGES;
	if (!ring && r->flags & KVM_MEM_LOG_DIRTY_PAGES)
		worked(a, ATTEMPT(a, __vm_ioctl(vm, KVM_GET_DIRTY_LOG, &args)),
		       "KVM_GET_DIRTY_LOG");
	pthread_mutex_unlock(&log_lock);
}

static void op_log(struct actor *a)
{
	say(a, "dirty ring");
	if (!any(a, 3))
		toggle_log(a, &common);
	else if (ring)
		reap_ring(a);
	else if (a->own.there && a->own.flags & KVM_MEM_LOG_DIRTY_PAGES)
		get_log(a);
}

/* ---- Faults without an access, walks without a fault ---- */

static void op_pre_fault(struct actor *a)
{
	struct touch t = { .access = EXIT_R };
	u64 gpa = any_page(a), pages = 1, size, should;
	enum verdict v;
	int ret;

	if (is_own(a, gpa))
		pages = min_t(u64, any(a, 64) + 1,
			      ((own_window(a) + WINDOW - gpa) / PG));
	should = gpa;
	for (; should < gpa + pages * PG; should += PG) {
		t.gpa = should;
		v = judge(a, &t);
		if (v != ALLOWED)
			break;
	}
	size = pages * PG;
	say(a, "pre-fault [%#lx, +%#lx)", gpa, size);
	t.gpa = gpa;
	v = judge(a, &t);
	ret = ATTEMPT(a, __vcpu_pre_fault_memory(a->vcpu, &gpa, &size));
	if (failed(a, ret) || (errors_allowed && !ret))
		return;
	/* Mainline goes by the MMU in use, which is that of L1 if L2 has no NPT. */
	if (a->nested && !memfd_is_ours())
		return;
	if (!has_tdp || a->nested)
		SHOULD(a, ret && errno == EOPNOTSUPP, "it should not be supported");
	else if (v == ALLOWED)
		SHOULD(a, !ret && gpa == should,
		       "it should get to %#lx, is at %#lx, errno: %i", should,
		       gpa, errno);
	else
		SHOULD(a, ret && (errno == (look_up(a, gpa).there ? EFAULT : ENOENT) ||
				  /* Mainline looks at PRIVATE before the memslot. */
				  (errno == EFAULT && !memfd_is_ours())),
		       "it should fail, returns %i, errno: %i", ret, errno);
}

/* The data's attributes do not matter, the page table's do. */
static void op_translate(struct actor *a)
{
	u64 gpa = any_page(a), gva = gpa, found;

	if (gpa - COMMON_GPA < COMMON_PAGES * PG && any(a, 2))
		gva = ALIAS_GVA + a->id * PG_SIZE_2M + gpa - COMMON_GPA;
	say(a, "translate %#lx, page table %#x", gva, a->table_attrs);
	found = vcpu_translate(a->vcpu, gva);
	SHOULD(a, found == (gva != gpa && a->table_attrs & NR ? -1ull : gpa) ||
	       (errors_allowed && found == -1ull),
	       "it should be %#lx if the table can be read, is %#lx", gpa,
	       found);
}

/* ---- A fork ---- */

/* What the child does must not reach the guest.  Returns what went wrong. */
static int child(struct actor *a)
{
	bool private = !backing_src_is_shared(backing_src);

	if (private)
		memset(a->own.hva, 0xee, OWN_PAGES / 4 * PG);
	if (!__vm_set_memory_attributes(vm, own_window(a), WINDOW, NOTHING))
		return 1;
	if (errno != EIO)
		return 2;
	if (!__vcpu_run(a->vcpu) || errno != EIO)
		return 3;
	return 0;
}

static void op_fork(struct actor *a)
{
	int status, pid;

	say(a, "fork");
	pthread_rwlock_wrlock(&fork_lock);
	pid = fork();
	if (!pid)
		_exit(child(a));
	SHOULD(a, pid > 0 || errors_allowed, "fork() should succeed");
	if (pid > 0)
		SHOULD(a, waitpid(pid, &status, 0) == pid && !status,
		       "the child should be refused with EIO, status %#x",
		       status);
	pthread_rwlock_unlock(&fork_lock);
}

/* ---- Contested pages ---- */

static void begin(struct fact *f, u32 value)
{
	int i;

	pthread_mutex_lock(&f->note);
	f->possible |= BIT(value);
	for (i = 0; i < nr_actors; i++)
		f->seen[i] |= BIT(value);
	pthread_mutex_unlock(&f->note);
}

static void end(struct fact *f, u32 value)
{
	pthread_mutex_lock(&f->note);
	f->value = value;
	f->possible = BIT(value);
	pthread_mutex_unlock(&f->note);
}

static struct contested *any_contested(struct actor *a)
{
	if (!any(a, 3))
		return &contested[nr_common_contested + any(a, CHURN_PAGES)];
	return &contested[any(a, any(a, 2) ? 6 : nr_common_contested)];
}

static u8 *shared_words(struct contested *c)
{
	return c->region->hva + (c->gpa - c->region->gpa);
}

/* The VMM's mapping shows that no vCPU writes to the page any more. */
static void check_quiet(struct actor *a, struct contested *c)
{
	u8 before[EDGE];

	if (!(c->attrs.value & (NW | MEM_ATTR_PRIVATE)))
		return;
	memcpy(before, shared_words(c), EDGE);
	usleep(any(a, 300));
	SHOULD(a, !memcmp(before, shared_words(c), EDGE),
	       "no vCPU should write to the shared page at %#lx with %#x",
	       c->gpa, c->attrs.value);
}

/* All of [c, c + nr) are neighbours, or @nr is 1. */
static bool set_contested(struct actor *a, struct contested *c, int nr,
			  u8 attrs)
{
	bool ok;
	int i;

	for (i = 0; i < nr; i++)
		pthread_mutex_lock(&c[i].attrs.change);
	for (i = 0; i < nr; i++)
		begin(&c[i].attrs, attrs);
	ok = try_set(a, c->gpa, nr * PG, attrs);
	for (i = 0; i < nr; i++)
		end(&c[i].attrs, ok ? attrs : c[i].attrs.value);
	if (ok)
		check_quiet(a, &c[any(a, nr)]);
	for (i = 0; i < nr; i++)
		pthread_mutex_unlock(&c[i].attrs.change);
	return ok;
}

static void op_contest_set(struct actor *a)
{
	struct contested *c = any_contested(a);
	int i = c - contested - nr_common_contested, nr = 1;
	u8 attrs = any_attrs(a);

	if (i >= 0)
		nr = any(a, CHURN_PAGES - i) + 1;
	say(a, "set contested [%#lx, +%#lx) to %#x", c->gpa, nr * PG, attrs);
	set_contested(a, c, nr, attrs);
}

/* Pages that are no neighbours, by a list */
static void op_contest_update(struct actor *a)
{
	struct kvm_memory_attributes_update u[4];
	struct contested *c[4];
	u8 attrs[4];
	u32 done = 0;
	int i, ret;

	say(a, "update contested pages");
	for (i = 0; i < 4; i++) {
		attrs[i] = any_attrs(a);
		c[i] = &contested[i ? c[i - 1] - contested + 1 + any(a, 3) :
				  any(a, 3)];
		u[i] = (struct kvm_memory_attributes_update) {
			.address = c[i]->gpa, .size = PG, .set = attrs[i],
			.clear = (protected ? 15 : 7) & ~attrs[i],
		};
		pthread_mutex_lock(&c[i]->attrs.change);
		begin(&c[i]->attrs, attrs[i]);
	}
	ret = ATTEMPT(a, update_attrs(u, 4, &done));
	SHOULD(a, !ret == (done == 4) && (!ret || failed(a, ret)),
	       "the update should succeed, errno: %i, %u done", errno, done);
	for (i = 0; i < 4; i++)
		end(&c[i]->attrs, i < done ? attrs[i] : c[i]->attrs.value);
	check_quiet(a, c[any(a, 4)]);
	for (i = 0; i < 4; i++)
		pthread_mutex_unlock(&c[i]->attrs.change);
}

static void op_contest_slot(struct actor *a)
{
	u32 flags = churn.memfd >= 0 ? KVM_MEM_GUEST_MEMFD : 0;
	bool ok, there;

	say(a, "churn the memslot");
	pthread_mutex_lock(&churn_there.change);
	there = !churn_there.value;
	begin(&churn_there, there);
	ok = worked(a, set_region(&churn, CHURN_GPA, flags, there),
		    "Changing the memslot");
	end(&churn_there, ok ? there : !there);
	pthread_mutex_unlock(&churn_there.change);
}

static void op_contest_punch(struct actor *a)
{
	struct contested *c = any_contested(a);

	say(a, "punch contested %#lx", c->gpa);
	if (c->region->memfd < 0)
		return;
	atomic_fetch_add(&c->punches, 1);
	worked(a, ATTEMPT(a, fallocate(c->region->memfd, FALLOC_FL_PUNCH_HOLE |
				       FALLOC_FL_KEEP_SIZE,
				       c->gpa - c->region->gpa, PG)),
	       "fallocate()");
	atomic_fetch_add(&c->punches, 1);
}

static void watch_contested(struct actor *a, struct contested *c)
{
	watch(&c->attrs, a->id);
	watch(&churn_there, a->id);
}

/*
 * Could the access have ended with this verdict since the actor began to watch,
 * and, if it is an exit, with these flags?  Which copies could it have reached?
 */
static bool was_possible(struct actor *a, struct contested *c, u64 access,
			 enum verdict should, u64 flags, u32 *copies)
{
	u32 attrs = seen_by(&c->attrs, a->id), there = BIT(1), combination;
	u64 private, refused;
	enum verdict v;
	bool found = false;
	u8 n;

	if (c->region == &churn)
		there = seen_by(&churn_there, a->id);
	*copies = 0;
	for (combination = 0; combination < 32; combination++) {
		n = combination & 15;
		if (!(attrs & BIT(n)) || !(there & BIT(combination >> 4)))
			continue;
		v = judge_attrs(n, combination >> 4, c->region->memfd >= 0,
				access);
		private = n & MEM_ATTR_PRIVATE ? EXIT_P : 0;
		refused = flags & ~EXIT_P;
		if (v != should && !(should == REFUSED && v == UNPROVIDED))
			continue;
		if (should == REFUSED && (flags & EXIT_P) != private)
			continue;
		if (v == REFUSED && should == REFUSED && refused != access)
			continue;
		if (v == UNPROVIDED && should == REFUSED && refused &&
		    !(refused & access & forbidden(n)))
			continue;
		found = true;
		*copies |= BIT(!!private);
	}
	return found;
}

static void check_contested_load(struct actor *a, struct contested *c,
				 u32 copies)
{
	u64 *words = c->words[a->id], result = a->order->result;
	bool punched = atomic_load(&c->punches) != c->punches_then[a->id];

	if (copies & BIT(SHARED) && result == words[SHARED])
		return;
	if (copies & BIT(PRIVATE) && result == words[PRIVATE])
		return;
	SHOULD(a, copies & BIT(PRIVATE) && punched && !result,
	       "the word should be %#lx shared or %#lx private, copies %#x, is %#lx",
	       words[SHARED], words[PRIVATE], copies, result);
	words[PRIVATE] = 0;
}

/* The store went to one copy, which the VMM's mapping tells. */
static void check_contested_store(struct actor *a, struct contested *c,
				  u32 copies, unsigned int punches)
{
	u64 *words = c->words[a->id], *shared;
	enum copy copy;

	shared = (u64 *)shared_words(c) + a->id;
	copy = READ_ONCE(*shared) == a->order->value ? SHARED : PRIVATE;
	SHOULD(a, copies & BIT(copy),
	       "the store should not have gone to the %s copy",
	       copy == SHARED ? "shared" : "private");
	words[copy] = a->order->value;
	if (copy == PRIVATE)
		c->punches_then[a->id] = punches;
	SHOULD(a, READ_ONCE(*shared) == words[SHARED],
	       "the shared word should be %#lx, is %#lx", words[SHARED],
	       *shared);
}

static void check_contested(struct actor *a, struct contested *c, u64 access,
			    unsigned int punches)
{
	u32 copies;

	SHOULD(a, was_possible(a, c, access, a->was_mmio ? MMIO : ALLOWED, 0,
			       &copies),
	       "the access should not %s, attributes seen %#x",
	       a->was_mmio ? "be MMIO" : "complete",
	       seen_by(&c->attrs, a->id));
	if (a->order->insn == STORE && !a->was_mmio)
		check_contested_store(a, c, copies, punches);
	else if (a->order->insn == STORE)
		SHOULD(a, *((u64 *)shared_words(c) + a->id) ==
		       c->words[a->id][SHARED], "MMIO should not reach memory");
	else if (a->was_mmio)
		SHOULD(a, a->order->result == mmio_word(a->gpa),
		       "the device should be read");
	else
		check_contested_load(a, c, copies);
}

/* Others may refuse it again and again: then make room for it. */
static void contested_fault(struct actor *a, struct contested *c, u64 access,
			    int times)
{
	struct kvm_run *run = a->vcpu->run;
	u64 flags = run->memory_fault.flags;
	u32 copies;

	note(a, "exit %#lx at %#llx", flags, run->memory_fault.gpa);
	a->refusals++;
	if (flags != EXIT_P || !may_rerun(a, ENOMEM))
		SHOULD(a, run->memory_fault.gpa == c->gpa &&
		       was_possible(a, c, access, REFUSED, flags, &copies),
		       "%#llx should not exit with %#lx, attributes seen %#x",
		       run->memory_fault.gpa, flags,
		       seen_by(&c->attrs, a->id));
	if (times > 2)
		set_contested(a, c, 1, 0);
	watch_contested(a, c);
}

static void op_contest(struct actor *a)
{
	struct contested *c = any_contested(a);
	enum insn_kind insn = any(a, 2) ? LOAD : STORE;
	enum event e;
	unsigned int punches;
	int times = 0;

	new_order(a, insn, c->gpa + a->id * 8);
	say(a, "%s%s at contested %#lx", a->order->forced ? "emulated " : "",
	    insn_names[insn], a->gpa);
	a->was_mmio = false;
	watch_contested(a, c);
	punches = atomic_load(&c->punches);
	while ((e = enter(a)) != DONE) {
		if (e == FAULT)
			contested_fault(a, c, accesses[insn], times++);
		else if (e == MMIO_EXIT)
			serve_mmio(a);
	}
	check_contested(a, c, accesses[insn], punches);
}

/* ---- Actors ---- */

static const struct {
	void (*fn)(struct actor *a);
	int weight;
} ops[] = {
	{ op_access, 30 }, { op_fetch, 6 }, { op_string, 16 }, { op_set, 16 },
	{ op_update, 5 }, { op_set_wrong, 2 }, { op_far, 2 }, { op_get, 4 },
	{ op_pv, 4 }, { op_slot, 6 }, { op_punch, 6 }, { op_log, 5 },
	{ op_pre_fault, 4 }, { op_translate, 4 }, { op_fork, 1 },
	{ op_contest, 30 }, { op_contest_set, 14 }, { op_contest_update, 3 },
	{ op_contest_slot, 3 }, { op_contest_punch, 2 },
};

static void do_op(struct actor *a)
{
	int total = 0, i, n;

	for (i = 0; i < ARRAY_SIZE(ops); i++)
		total += ops[i].weight;
	a->rng = mix(mix(mix(seed, a->vm_nr), a->id + 1), a->op);
	random_next(&a->rng);
	n = any(a, total);
	for (i = 0; n >= ops[i].weight; i++)
		n -= ops[i].weight;
	ops[i].fn(a);
}

static bool time_is_up(void)
{
	return timespec_elapsed(begun).tv_sec >= seconds;
}

static bool is_zero(const u8 *p, size_t size)
{
	return mem_is_filled(p, 0, size);
}

static void check_all_shared(struct actor *a, struct region *r,
			     struct backing *data, int i)
{
	u8 *page = r->hva + i * PG;

	SHOULD(a, !memcmp(page, data[i].data[SHARED], EDGE) &&
	       !memcmp(page + PG - EDGE, data[i].data[SHARED] + EDGE, EDGE),
	       "page %i of memslot %u should be as in the model", i, r->slot);
	SHOULD(a, data[i].had_pv || is_zero(page + EDGE, PG - 2 * EDGE),
	       "page %i of memslot %u should be empty in the middle", i,
	       r->slot);
}

static void check_actor(struct actor *a)
{
	int i;

	say(a, "the end");
	check_pv(a);
	for (i = 0; i < OWN_PAGES; i++)
		check_all_shared(a, &a->own, a->own_data, i);
	for (i = 0; i < COMMON_PAGES; i++)
		if (owns_common(a, i))
			check_all_shared(a, &common, a->common_data, i);
	get_attrs(a, own_window(a), WINDOW, true, is_own_extent);
	get_attrs(a, FAR_GPA * (a->id + 1), FAR_BLOCK * FAR_BLOCKS, true,
		  is_far_extent);
}

static void *run_actor(void *arg)
{
	struct actor *a = arg;

	a->fail_nth = -1;
	if (errors_allowed)
		a->fail_nth = open("/proc/thread-self/fail-nth", O_RDWR);
	for (a->op = 0; a->op < OPS_PER_VM && a->op < ops_left; a->op++) {
		if (time_is_up())
			break;
		do_op(a);
	}
	if (a->fail_nth >= 0)
		close(a->fail_nth);
	a->fail_nth = -1;
	check_actor(a);
	return NULL;
}

/* ---- VMs ---- */

static void region_create(struct region *r, u32 slot, u64 gpa, u64 pages,
			  bool bind)
{
	*r = (struct region) {
		.slot = slot, .gpa = gpa, .pages = pages, .memfd = -1,
		.there = true, .bound = bind,
	};
	r->hva = backing_mmap(backing_src, pages * PG, &r->map_start,
			      &r->map_size);
	if (bind)
		r->memfd = vm_create_guest_memfd(vm, pages * PG, memfd_flags);
	r->flags = bind ? KVM_MEM_GUEST_MEMFD : 0;
	TEST_ASSERT(!set_region(r, gpa, r->flags, true),
		    "Creating memslot %u should succeed, errno: %i", slot,
		    errno);
}

static void fact_init(struct fact *f, u32 value)
{
	*f = (struct fact) { .value = value, .possible = BIT(value) };
	pthread_mutex_init(&f->change, NULL);
	pthread_mutex_init(&f->note, NULL);
}

static void add_contested(struct region *r, u64 page)
{
	struct contested *c = &contested[nr_contested++];

	memset(c, 0, sizeof(*c));
	fact_init(&c->attrs, 0);
	c->region = r;
	c->gpa = r->gpa + page * PG;
}

static void create_contested(void)
{
	int i;

	nr_contested = 0;
	for (i = 0; i < COMMON_PAGES; i++)
		if (i % (nr_actors + 1) == nr_actors)
			add_contested(&common, i);
	nr_common_contested = nr_contested;
	for (i = 0; i < CHURN_PAGES; i++)
		add_contested(&churn, i);
	fact_init(&churn_there, true);
}

/* Identity for the lowest GiB and the fifth, where our memory is */
static u64 create_npt(void)
{
	const u64 flags = PTE_PRESENT_MASK | PTE_WRITABLE_MASK | PTE_USER_MASK;
	vm_vaddr_t gva = vm_vaddr_alloc_pages(vm, 3);
	u64 gpa[3], *table[3];
	int i;

	for (i = 0; i < 3; i++) {
		gpa[i] = addr_gva2gpa(vm, gva + i * PG);
		table[i] = addr_gpa2hva(vm, gpa[i]);
		memset(table[i], 0, PG);
	}
	table[0][0] = gpa[1] | flags;
	table[1][0] = gpa[2] | flags;
	table[1][4] = COMMON_GPA | flags | PTE_LARGE_MASK;
	for (i = 0; i < 512; i++)
		table[2][i] = i * PG_SIZE_2M | flags | PTE_LARGE_MASK;
	return gpa[0];
}

static void create_ept(struct vmx_pages *vmx)
{
	prepare_eptp(vmx, vm, 0);
	nested_map_memslot(vmx, vm, 0);
	nested_map(vmx, vm, COMMON_GPA, COMMON_GPA, COMMON_PAGES * PG);
	nested_map(vmx, vm, CHURN_GPA, CHURN_GPA, CHURN_PAGES * PG);
	nested_map(vmx, vm, TABLE_GPA, TABLE_GPA, MAX_ACTORS * PG);
	nested_map(vmx, vm, OWN_GPA, OWN_GPA, nr_actors * WINDOW);
}

static u64 *pde_of(u64 gva)
{
	u64 *table = addr_gpa2hva(vm, vm->pgd);
	int shift;

	for (shift = 39; shift > 21; shift -= 9)
		table = addr_gpa2hva(vm, table[(gva >> shift) % 512] &
				     PHYSICAL_PAGE_MASK);
	return &table[(gva >> 21) % 512];
}

/*
 * The last level of ALIAS is in TABLES, with accessed and dirty bits set: a walk
 * in software only reads it.
 */
static void create_alias(struct actor *a)
{
	u64 gva = ALIAS_GVA + a->id * PG_SIZE_2M, *table;
	int i;

	virt_map(vm, gva, COMMON_GPA, COMMON_PAGES);
	table = (u64 *)(tables.hva + a->id * PG);
	for (i = 0; i < COMMON_PAGES; i++)
		table[i] = (COMMON_GPA + i * PG) | PTE_PRESENT_MASK |
			   PTE_WRITABLE_MASK | PTE_ACCESSED_MASK |
			   PTE_DIRTY_MASK;
	*pde_of(gva) = table_gpa(a) | PTE_PRESENT_MASK | PTE_WRITABLE_MASK |
		       PTE_ACCESSED_MASK;
}

static void create_nested(struct actor *a, bool paging)
{
	vm_vaddr_t gva;

	if (kvm_cpu_has(X86_FEATURE_SVM)) {
		vcpu_alloc_svm(vm, &gva);
		vcpu_args_set(a->vcpu, 3, a->id, gva,
			      paging && kvm_cpu_has(X86_FEATURE_NPT) ?
			      create_npt() : 0);
	} else {
		struct vmx_pages *vmx = vcpu_alloc_vmx(vm, &gva);

		if (paging && get_kvm_intel_param_bool("ept"))
			create_ept(vmx);
		vcpu_args_set(a->vcpu, 2, a->id, gva);
	}
}

static bool can_nest(void)
{
	return kvm_cpu_has(X86_FEATURE_SVM) || kvm_cpu_has(X86_FEATURE_VMX);
}

static void choose_kind(u64 *rng)
{
	static const enum vm_mem_backing_src_type srcs[] = {
		VM_MEM_SRC_ANONYMOUS, VM_MEM_SRC_ANONYMOUS_THP,
		VM_MEM_SRC_SHMEM,
	};

	protected = vm_type_is_supported(KVM_X86_SW_PROTECTED_VM) &&
		    random_next(rng) % 2;
	ring = kvm_has_cap(KVM_CAP_DIRTY_LOG_RING) && !(random_next(rng) % 3);
	manual_log = !ring && random_next(rng) % 2;
	backing_src = srcs[random_next(rng) % ARRAY_SIZE(srcs)];
	memfd_flags = 0;
	if (protected && random_next(rng) % 2)
		memfd_flags = kvm_check_cap(KVM_CAP_GUEST_MEMFD_BACKING_FLAGS) &
			      (random_next(rng) << 24);
}

/* The type is to be chosen before, and the ring before there are vCPUs. */
static void open_vm(void)
{
	vm = __vm_create(VM_MODE_DEFAULT, nr_actors, 2048);
	if (protected) {
		kvm_vm_release(vm);
		vm->type = KVM_X86_SW_PROTECTED_VM;
		kvm_vm_restart(vm);
	}
	if (memfd_flags)
		vm_enable_memfd_flags(vm, memfd_flags);
	if (ring)
		vm_enable_dirty_ring(vm, RING_ENTRIES *
				     sizeof(struct kvm_dirty_gfn));
	if (manual_log)
		vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      kvm_check_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2));
}

static void find_accepted(void)
{
	int attrs;

	accepted = 0;
	for (attrs = 0; attrs < 16; attrs++)
		if (vm_accepts_attributes(vm, attrs))
			accepted |= BIT(attrs);
}

static void create_actor(int id, int vm_nr, u64 *rng)
{
	struct actor *a = calloc(1, sizeof(*a));

	TEST_ASSERT(a, "out of memory");
	actors[id] = a;
	a->id = id;
	a->vm_nr = vm_nr;
	a->fail_nth = -1;
	a->pv[0] = (struct pv) { MSR_KVM_SYSTEM_TIME_NEW, CLOCK_AT, 32 };
	a->pv[1] = (struct pv) { MSR_KVM_STEAL_TIME, STEAL_AT, 64 };
	region_create(&a->own, OWN_SLOT + id, own_window(a), OWN_PAGES,
		      protected && random_next(rng) % 4);
	virt_map(vm, own_window(a), own_window(a), WINDOW_PAGES);
	create_alias(a);
	a->vcpu = vm_vcpu_add(vm, id, obey);
	vcpu_args_set(a->vcpu, 1, id);
	vcpu_init_descriptor_tables(a->vcpu);
}

/* One after the other: they share what run_guest() saves registers in. */
static void start_actor(struct actor *a, u64 *rng)
{
	struct kvm_regs regs;

	a->order = *guest_global(vm, orders) + a->id;
	if (can_nest() && random_next(rng) % 2) {
		vcpu_regs_get(a->vcpu, &regs);
		regs.rip = (u64)(kvm_cpu_has(X86_FEATURE_SVM) ? (void *)l1_svm :
				 (void *)l1_vmx);
		vcpu_regs_set(a->vcpu, &regs);
		create_nested(a, random_next(rng) % 2);
		a->nested = true;
	}
	say(a, "start");
	SHOULD(a, enter(a) == DONE, "the guest should start, exit: %s",
	       exit_story(a->vcpu->run));
}

static void create_vm(int vm_nr, u64 *rng)
{
	int i;

	choose_kind(rng);
	open_vm();
	find_accepted();
	region_create(&common, COMMON_SLOT, COMMON_GPA, COMMON_PAGES, protected);
	region_create(&churn, CHURN_SLOT, CHURN_GPA, CHURN_PAGES, protected);
	region_create(&tables, TABLE_SLOT, TABLE_GPA, MAX_ACTORS, false);
	virt_map(vm, COMMON_GPA, COMMON_GPA, COMMON_PAGES);
	virt_map(vm, CHURN_GPA, CHURN_GPA, CHURN_PAGES);
	create_contested();
	vm_init_descriptor_tables(vm);
	for (i = 0; i < nr_actors; i++)
		create_actor(i, vm_nr, rng);
	for (i = 0; i < nr_actors; i++)
		start_actor(actors[i], rng);
}

static void unmap_all(void)
{
	int i;

	munmap(common.map_start, common.map_size);
	munmap(churn.map_start, churn.map_size);
	munmap(tables.map_start, tables.map_size);
	for (i = 0; i < nr_actors; i++)
		munmap(actors[i]->own.map_start, actors[i]->own.map_size);
}

static void close_in_any_order(int *fds, int nr, u64 *rng)
{
	int i;

	for (; nr; nr--) {
		i = random_next(rng) % nr;
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = fds[nr - 1];
	}
}

/* Duplicates outlive what the library closes. */
static void destroy_vm(u64 *rng)
{
	int fds[2 * MAX_ACTORS + 3], nr = 0, i;
	bool unmap_first = random_next(rng) % 2;

	fds[nr++] = dup(vm->fd);
	fds[nr++] = common.memfd;
	fds[nr++] = churn.memfd;
	for (i = 0; i < nr_actors; i++) {
		fds[nr++] = dup(actors[i]->vcpu->fd);
		fds[nr++] = actors[i]->own.memfd;
	}
	kvm_vm_free(vm);
	if (unmap_first)
		unmap_all();
	close_in_any_order(fds, nr, rng);
	if (!unmap_first)
		unmap_all();
}

static struct {
	u64 ops, refusals, mmios, failures;
} total;

static void run_vm(int vm_nr)
{
	u64 rng = mix(seed, vm_nr), longest = 0;
	struct actor *a;
	int i;

	random_next(&rng);
	create_vm(vm_nr, &rng);
	for (i = 0; i < nr_actors; i++)
		pthread_create(&actors[i]->thread, NULL, run_actor, actors[i]);
	for (i = 0; i < nr_actors; i++)
		pthread_join(actors[i]->thread, NULL);
	destroy_vm(&rng);
	for (i = 0; i < nr_actors; i++) {
		a = actors[i];
		longest = max_t(u64, longest, a->op);
		total.ops += a->op;
		total.refusals += a->refusals;
		total.mmios += a->mmios;
		total.failures += a->failures;
		free(a);
	}
	ops_left -= longest;
}

static void help(const char *name)
{
	printf("usage: %s [option...]\n"
	       " -s: seed (random)\n"
	       " -v: number of the first VM (0)\n"
	       " -n: operations of each actor (as many as there is time for)\n"
	       " -t: seconds (%d)\n"
	       " -c: actors, a vCPU each, at most %d (%d)\n"
	       " -e: memory allocations may fail\n",
	       name, seconds, MAX_ACTORS, nr_actors);
	exit(1);
}

static void parse(int argc, char *argv[])
{
	int opt;

	while ((opt = getopt(argc, argv, "s:v:n:t:c:e")) != -1) {
		if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (opt == 'v')
			first_vm = atoi(optarg);
		else if (opt == 'n')
			ops_left = strtoull(optarg, NULL, 0);
		else if (opt == 't')
			seconds = atoi(optarg);
		else if (opt == 'c')
			nr_actors = atoi(optarg);
		else if (opt == 'e')
			errors_allowed = true;
		else
			help(argv[0]);
	}
	if (nr_actors < 1 || nr_actors > MAX_ACTORS)
		help(argv[0]);
}

int main(int argc, char *argv[])
{
	int vm_nr;

	clock_gettime(CLOCK_MONOTONIC, &begun);
	seed = (begun.tv_nsec ^ (u64)getpid() << 16) & 0xffffffff;
	parse(argc, argv);
	TEST_REQUIRE_PROTECTIONS();

	pr_info("seed %lu\n", seed);
	forced = enable_forced_emulation();
	has_tdp = kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY);
	for (vm_nr = first_vm; ops_left && !time_is_up(); vm_nr++)
		run_vm(vm_nr);
	pr_info("%d VMs, %lu operations, %lu refusals, %lu MMIOs, %lu failures\n",
		vm_nr - first_vm, total.ops, total.refusals, total.mmios,
		total.failures);
	return 0;
}
