// What Linux says of this machine and this process.
#pragma once

namespace veca {

// Degrees Celsius of the hottest thermal zone; NaN where there is none.
double hottest_celsius();

// Memory of this process.
double resident_mib();

}  // namespace veca
