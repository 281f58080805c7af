/* libopendmarc on cases from standard input, without DNS. Each line has, separated by tabs:
 *
 *   from domain, record, its domain, organizational domain, SPF domain or -, SPF result (pass or fail),
 *   then any number of DKIM domains that passed
 *
 * For each a line: "pass" or "fail", "reject", "quarantine" or "none" as the policy to apply, and whether DKIM and SPF
 * are aligned, as 0 and 1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <netinet/in.h>
#include <arpa/nameser.h>
#include <resolv.h>

#include <opendmarc/dmarc.h>

#define FIELDS 32

int main(int argc, char **argv)
{
	static char line[65536];
	OPENDMARC_LIB_T lib;

	if (argc != 2)
		return 2;
	memset(&lib, 0, sizeof lib);
	lib.tld_type = OPENDMARC_TLD_TYPE_MOZILLA;
	snprintf((char *)lib.tld_source_file, sizeof lib.tld_source_file, "%s", argv[1]);
	if (opendmarc_policy_library_init(&lib) != DMARC_PARSE_OKAY)
		return 1;
	while (fgets(line, sizeof line, stdin) != NULL) {
		char *fields[FIELDS], *rest = line;
		int count = 0, dkim = 0, spf = 0;

		line[strcspn(line, "\n")] = 0;
		while (count < FIELDS && (fields[count] = strsep(&rest, "\t")) != NULL)
			count++;
		if (count < 6)
			return 1;
		DMARC_POLICY_T *policy = opendmarc_policy_connect_init((u_char *)"192.0.2.1", 4);
		opendmarc_policy_store_from_domain(policy, (u_char *)fields[0]);
		if (strcmp(fields[4], "-") != 0)
			opendmarc_policy_store_spf(policy, (u_char *)fields[4],
			                           strcmp(fields[5], "pass") == 0 ? DMARC_POLICY_SPF_OUTCOME_PASS
			                                                          : DMARC_POLICY_SPF_OUTCOME_FAIL,
			                           DMARC_POLICY_SPF_ORIGIN_MAILFROM, (u_char *)fields[5]);
		for (int i = 6; i < count; i++)
			opendmarc_policy_store_dkim(policy, (u_char *)fields[i], (u_char *)"s",
			                            DMARC_POLICY_DKIM_OUTCOME_PASS, (u_char *)"pass");
		u_char *organization = strcmp(fields[2], fields[3]) == 0 && strcmp(fields[0], fields[2]) == 0
		                           ? NULL
		                           : (u_char *)fields[3];
		const char *verdict, *apply = "none";
		if (opendmarc_policy_store_dmarc(policy, (u_char *)fields[1], (u_char *)fields[0], organization) !=
		    DMARC_PARSE_OKAY) {
			printf("none none 0 0\n");
			continue;
		}
		switch (opendmarc_get_policy_to_enforce(policy)) {
		case DMARC_POLICY_PASS:
			verdict = "pass";
			break;
		case DMARC_POLICY_REJECT:
			verdict = "fail", apply = "reject";
			break;
		case DMARC_POLICY_QUARANTINE:
			verdict = "fail", apply = "quarantine";
			break;
		case DMARC_POLICY_NONE:
			verdict = "fail";
			break;
		default:
			verdict = "none";
		}
		opendmarc_policy_fetch_alignment(policy, &dkim, &spf);
		printf("%s %s %d %d\n", verdict, apply, dkim == DMARC_POLICY_DKIM_ALIGNMENT_PASS,
		       spf == DMARC_POLICY_SPF_ALIGNMENT_PASS);
		opendmarc_policy_connect_shutdown(policy);
	}
	return 0;
}
