/*
 * What the parts of jinja.h share: values, the tree of a template, and the memory of a run. Inside of them an error
 * ends the run by a jump (jinja_fail()): all memory is of the run's arena, so a jump leaves nothing behind.
 */
#ifndef ENGINE_JINJA_PARTS_H
#define ENGINE_JINJA_PARTS_H

#include <setjmp.h>

#include "jinja.h"

/* ---- the run ---- */

struct jinja_block;
struct jinja_scope;

struct jinja_run {
	jmp_buf out;
	struct err *err;
	struct jinja_block *blocks; /* the arena */
	char *free_at, *free_end;
	size_t bytes, bytes_most;
	size_t steps, steps_most;
	size_t output_most;
	int depth;
	int line; /* where the run is, for errors */
	const struct tm *now;
};

enum { JINJA_DEPTH_MOST = 200 };

_Noreturn void jinja_fail(struct jinja_run *r, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Memory of the run, zeroed; counts as steps, so that time is bounded by what the limits say. */
void *jinja_take(struct jinja_run *r, size_t bytes);
void jinja_steps(struct jinja_run *r, size_t count);
/* One level deeper, until jinja_up(). */
void jinja_down(struct jinja_run *r);
void jinja_up(struct jinja_run *r);
void jinja_run_release(struct jinja_run *r);

/* ---- values ---- */

enum jinja_kind {
	JINJA_UNDEFINED,
	JINJA_NONE,
	JINJA_BOOL,
	JINJA_INT,
	JINJA_FLOAT,
	JINJA_TEXT,
	JINJA_LIST,
	JINJA_TUPLE,
	JINJA_DICT,
	JINJA_NAMESPACE,
	JINJA_MACRO,
	JINJA_FUNCTION,
	JINJA_METHOD,
	JINJA_LOOP,
};

/* `from` has the origin of each byte; NULL: all are the template's. */
struct jinja_text {
	const char *at;
	const uint8_t *from;
	size_t len;
};

struct jinja_value {
	enum jinja_kind kind;
	bool markup; /* a text that went through the filter `safe` */
	bool stream; /* a list that a filter gives member by member: it has no length and no form as text */
	union {
		bool b;
		int64_t i;
		double d;
		struct jinja_text s;
		struct jinja_list *list; /* of a list or tuple */
		struct jinja_dict *dict; /* of a dict or namespace */
		struct jinja_macro *macro;
		const struct jinja_function *function;
		struct jinja_method *method;
		struct jinja_loop *loop;
		const char *name; /* of what is undefined; NULL: nobody knows */
	};
};

struct jinja_list {
	struct jinja_value *at;
	size_t count, room;
};

struct jinja_pair {
	struct jinja_value key, value;
};

struct jinja_dict {
	struct jinja_pair *at;
	size_t count, room;
};

struct jinja_loop {
	const struct jinja_list *list;
	size_t index;
	int depth;
	bool has_last;
	struct jinja_value last; /* of changed() */
};

/* The arguments of a call. */
struct jinja_args {
	struct jinja_list pos;
	struct jinja_dict named;
};

struct jinja_function {
	const char *name;
	struct jinja_value (*call)(struct jinja_run *r, struct jinja_value self, struct jinja_args *a);
};

struct jinja_method {
	struct jinja_value self;
	const struct jinja_function *function;
};

static inline struct jinja_value jinja_undefined(const char *name)
{
	return (struct jinja_value){ .kind = JINJA_UNDEFINED, .name = name };
}

static inline struct jinja_value jinja_bool(bool b)
{
	return (struct jinja_value){ .kind = JINJA_BOOL, .b = b };
}

static inline struct jinja_value jinja_int(int64_t i)
{
	return (struct jinja_value){ .kind = JINJA_INT, .i = i };
}

static inline struct jinja_value jinja_float(double d)
{
	return (struct jinja_value){ .kind = JINJA_FLOAT, .d = d };
}

static inline struct jinja_value jinja_string(struct jinja_text s)
{
	return (struct jinja_value){ .kind = JINJA_TEXT, .s = s };
}

struct jinja_value jinja_word(const char *text); /* static text */
const char *jinja_kind_name(struct jinja_value v);
bool jinja_is_sequence(struct jinja_value v); /* a list or tuple */

struct jinja_value jinja_list_new(struct jinja_run *r, enum jinja_kind kind);
void jinja_push(struct jinja_run *r, struct jinja_list *l, struct jinja_value v);
struct jinja_value jinja_dict_new(struct jinja_run *r, enum jinja_kind kind);
void jinja_put(struct jinja_run *r, struct jinja_dict *d, struct jinja_value key, struct jinja_value v);
/* NULL: no such key. */
struct jinja_value *jinja_get(struct jinja_run *r, const struct jinja_dict *d, struct jinja_value key);
struct jinja_value *jinja_get_word(struct jinja_run *r, const struct jinja_dict *d, const char *key);

bool jinja_true(struct jinja_value v);
bool jinja_equal(struct jinja_run *r, struct jinja_value a, struct jinja_value b);
int jinja_order(struct jinja_run *r, struct jinja_value a, struct jinja_value b); /* less, equal or more than 0 */
bool jinja_contains(struct jinja_run *r, struct jinja_value in, struct jinja_value what);
struct jinja_list *jinja_iterate(struct jinja_run *r, struct jinja_value v); /* what `for` goes through */
struct jinja_value jinja_attribute(struct jinja_run *r, struct jinja_value v, const char *name);
struct jinja_value jinja_item(struct jinja_run *r, struct jinja_value v, struct jinja_value key);
struct jinja_value jinja_slice(struct jinja_run *r, struct jinja_value v, const struct jinja_value part[3]);
struct jinja_value jinja_arithmetic(struct jinja_run *r, char op, struct jinja_value a, struct jinja_value b);
struct jinja_value jinja_length(struct jinja_run *r, struct jinja_value v);

/* ---- texts ---- */

/* A text that grows in the arena. */
struct jinja_buffer {
	char *at;
	uint8_t *from;
	size_t len, room;
};

void jinja_write(struct jinja_run *r, struct jinja_buffer *b, struct jinja_text s);
void jinja_write_word(struct jinja_run *r, struct jinja_buffer *b, const char *s);
struct jinja_text jinja_written(const struct jinja_buffer *b);
struct jinja_text jinja_str(struct jinja_run *r, struct jinja_value v); /* Python's str() */
struct jinja_value jinja_to_json(struct jinja_run *r, struct jinja_value v, struct jinja_args *a);
struct jinja_value jinja_from_json(struct jinja_run *r, const char *text, size_t len, uint8_t origin);
void jinja_write_float(struct jinja_run *r, struct jinja_buffer *b, double d);

struct jinja_text jinja_cut(struct jinja_text s, size_t begin, size_t end);
bool jinja_same(struct jinja_text a, struct jinja_text b);
size_t jinja_character(struct jinja_text s, size_t at); /* bytes of the character there; 1 for what is none */
size_t jinja_put_utf8(char *to, uint32_t code);		/* returns its bytes, 1 to 4 */
bool jinja_is_space(struct jinja_text s, size_t at, size_t bytes);
struct jinja_text jinja_strip(struct jinja_text s, const struct jinja_text *of, int ends); /* 1: left, 2: right */
const char *jinja_find(struct jinja_run *r, struct jinja_text in, struct jinja_text what);
struct jinja_text jinja_replace(struct jinja_run *r, struct jinja_text s, struct jinja_text what, struct jinja_text by,
				int64_t most);
struct jinja_text jinja_case(struct jinja_run *r, struct jinja_text s, char how); /* u, l, c, t */
const struct jinja_function *jinja_text_method(const char *name);

/* ---- tables ---- */

const struct jinja_function *jinja_dict_method(const char *name);
const struct jinja_function *jinja_filter(const char *name);
const struct jinja_function *jinja_test(const char *name);
const struct jinja_function *jinja_global(const char *name);
const struct jinja_function *jinja_loop_method(const char *name);

/*
 * The arguments of a call by their names, up to a NULL; those that were not given are undefined. More arguments than
 * names, or other names, are an error.
 */
void jinja_arguments(struct jinja_run *r, const struct jinja_args *a, const char *what, const char *const *names,
		     struct jinja_value *ret);
struct jinja_text jinja_want_text(struct jinja_run *r, struct jinja_value v, const char *what);
int64_t jinja_want_int(struct jinja_run *r, struct jinja_value v, const char *what);

/* ---- the tree ---- */

enum jinja_type {
	/* expressions */
	JINJA_CONST,
	JINJA_NAME,
	JINJA_MAKE_LIST,
	JINJA_MAKE_TUPLE,
	JINJA_MAKE_DICT,
	JINJA_ATTRIBUTE,
	JINJA_ITEM,
	JINJA_SLICE,
	JINJA_CALL,
	JINJA_FILTER,
	JINJA_TEST,
	JINJA_NOT,
	JINJA_NEGATE,
	JINJA_PLUS,
	JINJA_AND,
	JINJA_OR,
	JINJA_COMPARE,
	JINJA_CONCAT,
	JINJA_BINARY,
	JINJA_IF_ELSE,
	JINJA_KEYWORD, /* an argument with a name */
	JINJA_SPREAD,  /* * or ** before an argument */
	/* statements */
	JINJA_DATA,
	JINJA_PRINT,
	JINJA_IF,
	JINJA_FOR,
	JINJA_SET,
	JINJA_SET_BLOCK,
	JINJA_MACRO_DEF,
	JINJA_CALL_BLOCK,
	JINJA_FILTER_BLOCK,
	JINJA_SCOPE,
	JINJA_BREAK,
	JINJA_CONTINUE,
};

/* The operators of JINJA_COMPARE; those of JINJA_BINARY are + - * / % and 'f' for //. */
enum jinja_compare { JINJA_EQ, JINJA_NE, JINJA_LT, JINJA_LE, JINJA_GT, JINJA_GE, JINJA_IN, JINJA_NOT_IN };

struct jinja_node {
	enum jinja_type type;
	int op, line;
	const char *name;
	struct jinja_value value;
	const struct jinja_function *function;
	struct jinja_node *a, *b, *c; /* what they are is said in jinja_parse.c */
	struct jinja_node *list;      /* children, one after the other by `next` */
	struct jinja_node *next;
};

struct jinja_macro {
	const struct jinja_node *node; /* a: parameters, b: body */
	struct jinja_scope *scope;     /* where it was made */
};

struct jinja {
	struct jinja_run memory; /* of the tree */
	struct jinja_node *body;
};

/* ---- words ---- */

enum jinja_word {
	JINJA_W_END, /* of the template */
	JINJA_W_DATA,
	JINJA_W_PRINT, /* {{ */
	JINJA_W_PRINT_END,
	JINJA_W_BLOCK, /* {% */
	JINJA_W_BLOCK_END,
	JINJA_W_NAME,
	JINJA_W_TEXT,
	JINJA_W_INT,
	JINJA_W_FLOAT,
	JINJA_W_OPERATOR, /* `op`: the character, or one of those of two characters below */
};

enum { JINJA_OP_EQ = 256, JINJA_OP_NE, JINJA_OP_LE, JINJA_OP_GE, JINJA_OP_POWER, JINJA_OP_FLOOR };

struct jinja_token {
	enum jinja_word word;
	int op, line;
	struct jinja_text text; /* data, name (with a zero behind it) or text */
	int64_t i;
	double d;
};

struct jinja_lexer {
	struct jinja_run *r;
	const char *at, *end;
	int line;
	int open;      /* brackets that are open */
	char inside;   /* 0: data; '{' or '%': between {{ }} or {% %} */
	bool at_begin; /* what was read last ended a line */
	bool raw;
};

/* The next word. Blanks are cut, and line feeds dropped, as trim_blocks and lstrip_blocks say. */
struct jinja_token jinja_lex(struct jinja_lexer *l);
struct jinja_node *jinja_parse(struct jinja_run *r, const char *text, size_t len);

#endif
