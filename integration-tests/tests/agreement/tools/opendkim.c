/* libopendkim on one message from standard input, without DNS:
 *
 *   opendkim verify KEYS                                     prints "pass" or "fail" and why
 *   opendkim sign KEY SELECTOR DOMAIN HEADER BODY ALGORITHM  prints the DKIM-Signature field
 *
 * KEYS has a line for each public key, its name and its record. HEADER and BODY are simple or relaxed.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <opendkim/dkim.h>

static void die(const char *what)
{
	fprintf(stderr, "opendkim: %s\n", what);
	exit(1);
}

static unsigned char *read_all(FILE *from, size_t *length)
{
	size_t room = 1 << 16;
	unsigned char *data = malloc(room + 1);
	*length = 0;
	for (;;) {
		if (data == NULL)
			die("no memory");
		*length += fread(data + *length, 1, room - *length, from);
		if (*length < room)
			break;
		room *= 2;
		data = realloc(data, room + 1);
	}
	data[*length] = 0;
	return data;
}

static dkim_canon_t canonicalization(const char *name)
{
	return strcmp(name, "simple") == 0 ? DKIM_CANON_SIMPLE : DKIM_CANON_RELAXED;
}

static dkim_alg_t algorithm(const char *name)
{
	if (strcmp(name, "rsa-sha1") == 0)
		return DKIM_SIGN_RSASHA1;
	return strcmp(name, "rsa-sha256") == 0 ? DKIM_SIGN_RSASHA256 : DKIM_SIGN_ED25519SHA256;
}

int main(int argc, char **argv)
{
	DKIM_STAT status;
	DKIM *dkim;
	size_t length;
	bool sign = argc == 8 && strcmp(argv[1], "sign") == 0;
	DKIM_LIB *lib = dkim_init(NULL, NULL);

	if (lib == NULL || !(sign || (argc == 3 && strcmp(argv[1], "verify") == 0)))
		die("usage");
	if (sign) {
		FILE *file = fopen(argv[2], "r");
		if (file == NULL)
			die("no key");
		unsigned char *key = read_all(file, &length);
		dkim = dkim_sign(lib, (unsigned char *)"x", NULL, key, (unsigned char *)argv[3],
		                 (unsigned char *)argv[4], canonicalization(argv[5]), canonicalization(argv[6]),
		                 algorithm(argv[7]), -1, &status);
	} else {
		int method = DKIM_QUERY_FILE;
		dkim_options(lib, DKIM_OP_SETOPT, DKIM_OPTS_QUERYMETHOD, &method, sizeof method);
		dkim_options(lib, DKIM_OP_SETOPT, DKIM_OPTS_QUERYINFO, argv[2], strlen(argv[2]));
		dkim = dkim_verify(lib, (unsigned char *)"x", NULL, &status);
	}
	if (dkim == NULL)
		die(dkim_getresultstr(status));
	unsigned char *message = read_all(stdin, &length);
	status = dkim_chunk(dkim, message, length);
	if (status == DKIM_STAT_OK)
		status = dkim_chunk(dkim, NULL, 0);
	if (status == DKIM_STAT_OK)
		status = dkim_eom(dkim, NULL);
	if (!sign) {
		printf("%s %s\n", status == DKIM_STAT_OK ? "pass" : "fail", dkim_getresultstr(status));
		return 0;
	}
	unsigned char *field;
	if (status != DKIM_STAT_OK)
		die(dkim_getresultstr(status));
	if (dkim_getsighdr_d(dkim, strlen("DKIM-Signature: "), &field, &length) != DKIM_STAT_OK)
		die("no signature");
	printf("DKIM-Signature: %s\r\n", field);
	return 0;
}
