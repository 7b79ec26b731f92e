// What the origin itself says about freshness. RFC 9111 sections 4.2.1 and 5.2.2.

// A lifetime is the policy's to choose.
export const NotSaid = "not said";
export const Lifetime = "lifetime";
// It is to be asked each time, or not to be stored.
export const Always = "always";

export function freshness(response) {
  let said = response.header("expires").length === 0 ? NotSaid : Lifetime;
  for (const field of ["cdn-cache-control", "cache-control"]) {
    for (const line of response.header(field)) {
      for (const directive of ascii(line).split(",")) {
        const name = directive.split("=")[0].trim().toLowerCase();
        if (name === "no-cache" || name === "no-store" || name === "private") return Always;
        if (name === "max-age" || name === "s-maxage") said = Lifetime;
      }
    }
  }
  return said;
}

// One character for each byte, so that no byte makes it fail.
const ascii = (bytes) => String.fromCharCode(...bytes);
